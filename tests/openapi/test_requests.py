"""Schemas of requests accept the values that the gateway accepts, and reject all others, field by field."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from gateway.dialects.dialect import Dialect
from gateway.dialects.field_checks import FORBIDDEN_FIELDS
from gateway.dialects.messages_api.request import OF_CHAT, TRANSLATED
from gateway.dialects.responses_api.request import ECHOED, INSTEAD, NOT_SUPPORTED, READERS
from gateway.dialects.table import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES
from gateway.dialects.tokenize import DETOKENIZE, TOKENIZE
from gateway.errors import GatewayError
from gateway.openapi import requests
from providers.base import Body
from tests.dialects.test_described import FORMATS, FUNCTIONS, LISTS, NUMBERS, OBJECTS, TEXTS, TOOLS
from tests.support.each import each

HELLO = [{"role": "user", "content": "Hello"}]
VALID: dict[str, tuple[Dialect, dict[str, Any], dict[str, Any]]] = {
    "chat": (CHAT, requests.chat(), {"model": "m", "messages": HELLO}),
    "completions": (COMPLETIONS, requests.text_completions(), {"model": "m", "prompt": "Hello"}),
    "embeddings": (EMBEDDINGS, requests.embedding_inputs(), {"model": "m", "input": "Hello"}),
    "rerank": (RERANK, requests.ranking(), {"model": "m", "query": "q", "documents": ["a"]}),
    "messages": (MESSAGES, requests.messages(), {"model": "m", "max_tokens": 9, "messages": HELLO}),
    "responses": (RESPONSES, requests.responses(), {"model": "m", "input": "Hello"}),
    "tokenize": (TOKENIZE, requests.tokenize(), {"model": "m", "messages": HELLO}),
    "detokenize": (DETOKENIZE, requests.detokenize(), {"model": "m", "tokens": [1]}),
}
CONTENTS: list[Any] = [
    "Hello",
    "",
    None,
    1,
    {},
    [],
    ["a"],
    [{}],
    [{"type": 1}],
    [{"type": "text"}],
    [{"type": "text", "text": "a"}],
    [{"type": "text", "text": 1}],
]
TURNS: list[Any] = [
    *({"role": role, "content": content} for role in ("user", "assistant", "system") for content in CONTENTS),
    {"role": "user"},
    {"content": "a"},
    {"role": "bishop", "content": "a"},
    {"role": 1, "content": "a"},
    "a",
    None,
    [],
]
VALUES: list[Any] = [
    None,
    True,
    False,
    0.5,
    *NUMBERS[::4],
    *TEXTS,
    *LISTS[::2],
    *OBJECTS,
    *TOOLS[::9],
    *FORMATS[::5],
    *FUNCTIONS,
    *([turn] for turn in TURNS),
]
DEEPER = {
    "rerank": {"documents"},
    "messages": {
        "system",
        "messages",
        "tools",
        "tool_choice",
        "output_config",
        "output_format",
        "metadata",
        "thinking",
    },
    "tokenize": {"messages", "prompt", "text", "input", "content"},
    "responses": {
        "input",
        "previous_response_id",
        "tools",
        "tool_choice",
        "reasoning",
        "text",
        "include",
        "prompt",
        "context_management",
        "stream_options",
    },
}
"""The fields of each API whose translation checks more than their schema states."""
PAIRS = {
    "best_of",
    "n",
    "top_logprobs",
    "logprobs",
    "stream",
    "min_tokens",
    "min_completion_tokens",
    "max_tokens",
    "messages",
}
"""Fields with a rule about another field."""


def accepts(dialect: Dialect, body: dict[str, Any]) -> bool:
    """Return whether an API accepts a body."""
    translator = dialect.translator()
    source = json.dumps(body).encode()
    try:
        dialect.check(Body(translator.request(source, strict=False) if translator else source))
    except GatewayError:
        return False
    return True


@pytest.mark.parametrize("api", VALID)
def test_smallest_request_is_accepted_by_the_schema_and_the_gateway(api: str) -> None:
    dialect, schema, body = VALID[api]
    assert accepts(dialect, body)
    assert jsonschema_rs.is_valid(schema, body)
    for name in body.keys() - {"model"}:
        without = {field: value for field, value in body.items() if field != name}
        assert (accepts(dialect, without), jsonschema_rs.is_valid(schema, without)) == (False, False)


@each("api", VALID)
def test_schema_rejects_no_field_that_the_gateway_accepts(api: str) -> None:
    dialect, schema, body = VALID[api]
    validator = jsonschema_rs.validator_for(schema)
    names = schema["properties"].keys() - {"model"}
    rejected = [
        (name, value)
        for name in names
        for value in VALUES
        if (api, name, value) != ("messages", "max_tokens", 0)  # only Anthropic accepts it, as the description states
        and not validator.is_valid(bad := {**body, name: value}) and accepts(dialect, bad)
    ]
    assert rejected == []


@each("api", VALID)
def test_gateway_rejects_no_field_that_the_schema_accepts(api: str) -> None:
    dialect, schema, body = VALID[api]
    validator = jsonschema_rs.validator_for(schema)
    names = schema["properties"].keys() - {"model"} - PAIRS - DEEPER.get(api, set())
    accepted = [
        (name, value)
        for name in names
        for value in VALUES
        if validator.is_valid(good := {**body, name: value}) and not accepts(dialect, good)
    ]
    assert accepted == []


@each("api", VALID)
def test_fields_of_the_configuration_are_in_no_request(api: str) -> None:
    dialect, schema, body = VALID[api]
    for name in FORBIDDEN_FIELDS:
        assert (accepts(dialect, {**body, name: "x"}), jsonschema_rs.is_valid(schema, {**body, name: "x"})) == (
            False,
            False,
        )


def test_every_translated_field_has_a_schema() -> None:
    assert set(requests.OF_RESPONSES) == set(READERS)
    assert {*ECHOED, *NOT_SUPPORTED} <= set(requests.responses()["properties"])
    assert set(INSTEAD) - set(requests.responses()["propertyNames"]["not"]["enum"]) == set()
    assert set(TRANSLATED) - set(requests.OF_MESSAGES) == set()
    assert set(OF_CHAT) - set(requests.messages()["properties"]) == set()


@each("choice", [None, {}, {"type": 1}, {"type": "all"}, *({"type": kind} for kind in ("auto", "any", "none", "tool"))])
def test_schema_and_gateway_agree_on_choices_of_messages(choice: Any) -> None:
    dialect, schema, body = VALID["messages"]
    tool = {"name": "t", "input_schema": {}}
    for given in (choice, choice and {**choice, "name": "t"}):
        whole = {**body, "tools": [tool], "tool_choice": given}
        assert accepts(dialect, whole) == jsonschema_rs.is_valid(schema, whole), given


def test_request_that_only_counts_needs_no_maximum() -> None:
    body = {"model": "m", "messages": HELLO}
    assert jsonschema_rs.is_valid(requests.messages(counts=True), body)
    assert not jsonschema_rs.is_valid(requests.messages(), body)
    assert jsonschema_rs.is_valid(requests.any_model(), {"model": "m"})
    assert jsonschema_rs.is_valid(requests.logits(), {**body, "top_k": 5, "filter_vocabulary": ["a"]})
    assert not jsonschema_rs.is_valid(requests.logits(), {**body, "top_k": 5_000})
