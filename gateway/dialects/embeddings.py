"""Checks of embeddings requests, in OpenAI's format."""

from __future__ import annotations

from typing import Any

from gateway.dialects.described import Schema, described
from gateway.dialects.field_checks import check_fields
from gateway.dialects.parameters import CHECKS, integer
from gateway.errors import refuse
from providers.base import Body

MAX_INPUTS = 16_384
MAX_TOKEN_ID = 2**31 - 1
MAX_DIMENSIONS = 1 << 20
FORMATS = ("float", "base64")


def check_embeddings(body: Body) -> None:
    """Check the known fields of a request without changing them. Raise BadRequest for the first error."""
    check_fields(body, FIELDS)
    if body.get("input") is None:
        raise refuse("input", "'input' is required.", "missing_required_parameter")
    if body.get("stream"):
        raise refuse("stream", "Embeddings cannot be streamed: omit 'stream'.", "unsupported_parameter")


def check_inputs(param: str, value: Any, most: int, *, may_be_empty: bool = False) -> None:
    """Check a string, an array of token ids, or a list of at most `most` strings or such arrays.

    `may_be_empty` allows empty strings.
    """
    if type(value) is str:
        _text(param, value, may_be_empty)
        return
    if type(value) is not list:
        raise refuse(param, f"'{param}' must be a string, a list of strings or an array of token ids.", _TYPE)
    if not value:
        raise refuse(param, f"'{param}' must not be empty.")
    kind: type = type(value[0])
    if kind is int:
        _tokens(param, value)
        return
    if kind not in (str, list):
        raise refuse(f"{param}[0]", f"'{param}[0]' must be a string, a token id or an array of token ids.", _TYPE)
    if len(value) > most:
        raise refuse(param, f"'{param}' must have at most {most} entries, not {len(value)}.")
    for index, each in enumerate(value):
        path = f"{param}[{index}]"
        if type(each) is not kind:
            raise refuse(path, f"'{path}' must be {'a string' if kind is str else 'an array of token ids'}.", _TYPE)
        if isinstance(each, str):
            _text(path, each, may_be_empty)
        elif not each:
            raise refuse(path, f"'{path}' must not be empty.")
        else:
            _tokens(path, each)


def schema_of_inputs(most: int, *, may_be_empty: bool = False) -> Schema:
    """Return the schema of the values that `check_inputs` accepts."""
    text: Schema = {"type": "string"} if may_be_empty else {"type": "string", "minLength": 1}
    token: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID}
    tokens: Schema = {"type": "array", "items": token, "minItems": 1}
    lists: list[Schema] = [{"type": "array", "items": each, "minItems": 1, "maxItems": most} for each in (text, tokens)]
    return {"anyOf": [text, tokens, *lists]}


@described(schema_of_inputs(MAX_INPUTS))
def _input(param: str, value: Any) -> None:
    check_inputs(param, value, MAX_INPUTS)


_TYPE = "invalid_type"


def _text(path: str, value: str, may_be_empty: bool) -> None:
    if not value and not may_be_empty:
        raise refuse(path, f"'{path}' must not be an empty string.")


def _tokens(path: str, tokens: list[Any]) -> None:
    for index, token in enumerate(tokens):
        if type(token) is not int:
            raise refuse(f"{path}[{index}]", f"'{path}[{index}]' must be a token id.", _TYPE)
        if not 0 <= token <= MAX_TOKEN_ID:
            raise refuse(f"{path}[{index}]", f"'{path}[{index}]' must be between 0 and {MAX_TOKEN_ID}.")


@described({"type": "string", "enum": list(FORMATS)})
def _encoding(param: str, value: Any) -> None:
    if value not in FORMATS:
        code = "invalid_value" if type(value) is str else _TYPE
        raise refuse(param, f"'{param}' must be 'float' or 'base64'.", code)


FIELDS = {
    "input": _input,
    "encoding_format": _encoding,
    "dimensions": integer(1, MAX_DIMENSIONS),
    "stream": CHECKS["stream"],
    "user": CHECKS["user"],
    "timeout_microseconds": CHECKS["timeout_microseconds"],
}
