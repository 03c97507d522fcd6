"""Requests of /tokenize and /detokenize, with vLLM's field names. The field of the text may also have another vendor's name."""

from __future__ import annotations

from typing import Any

from gateway.dialects.described import Schema
from gateway.dialects.dialect import PlainDialect
from gateway.dialects.embeddings import MAX_TOKEN_ID
from gateway.dialects.field_checks import check_fields
from gateway.dialects.parameters import CHECKS, check_parameters
from gateway.errors import refuse
from providers.base import Body
from providers.tokenizer_apis import Asked

TEXT_FIELDS = ("prompt", "text", "input", "content")
"""The names of the field with the text: those of vLLM, Cohere, OpenAI and llama.cpp."""
SWITCHES = ("add_generation_prompt", "add_special_tokens", "return_token_strs")
MAX_TOKENS = 1_000_000
TOKENS: Schema = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID},
    "maxItems": MAX_TOKENS,
}
_TYPE = "invalid_type"


def check_tokenize(body: Body) -> None:
    """Check a request of /tokenize. Raise BadRequest for the first invalid field."""
    given = [name for name in ("messages", *TEXT_FIELDS) if body.get(name) is not None]
    if not given:
        raise refuse("messages", f"'messages' or a text ('{TEXT_FIELDS[0]}') is required.", "missing_required_parameter")
    if len(given) > 1:
        raise refuse(given[1], f"'{given[1]}' cannot be combined with '{given[0]}'.", "conflicting_parameters")
    for name in SWITCHES:
        if body.get(name) is not None and type(body.get(name)) is not bool:
            raise refuse(name, f"'{name}' must be a boolean.", _TYPE)
    if given == ["messages"]:
        check_parameters(body)
        return
    if type(body.get(given[0])) is not str:
        raise refuse(given[0], f"'{given[0]}' must be a string.", _TYPE)
    check_fields(body, CHECKS)


def check_detokenize(body: Body) -> None:
    """Check a request of /detokenize. Raise BadRequest for the first invalid field."""
    check_fields(body, {"tokens": _token_ids})
    if body.get("tokens") is None:
        raise refuse("tokens", "'tokens' is required.", "missing_required_parameter")


def _token_ids(param: str, value: Any) -> None:
    if type(value) is not list:
        raise refuse(param, f"'{param}' must be a list of token ids.", _TYPE)
    if len(value) > MAX_TOKENS:
        raise refuse(param, f"'{param}' must have at most {MAX_TOKENS} entries, not {len(value)}.")
    for index, each in enumerate(value):
        path = f"{param}[{index}]"
        if type(each) is not int:
            raise refuse(path, f"'{path}' must be a token id.", _TYPE)
        if not 0 <= each <= MAX_TOKEN_ID:
            raise refuse(path, f"'{path}' must be between 0 and {MAX_TOKEN_ID}.")


def take_asked(body: Body) -> Asked:
    """Return the text (if any) and the settings of a request. Remove the settings, which a chat body does not have."""
    begins, special, texts = (body.pop(name) for name in SWITCHES)
    text = next((value for name in TEXT_FIELDS if (value := body.get(name)) is not None), None)
    return Asked(text, bool(texts), special, begins)


TOKENIZE = PlainDialect("chat", (), has_messages=True, can_continue=False, check=check_tokenize)
DETOKENIZE = PlainDialect("chat", (), has_messages=False, can_continue=False, check=check_detokenize)
