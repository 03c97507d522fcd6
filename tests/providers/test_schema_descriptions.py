"""The description of a structured output reaches the model at every provider that supports structured output."""

from __future__ import annotations

import json
from typing import Any

import providers
from gateway.emulate.json_mode import read_format
from providers.base import Body
from providers.rules.schema_descriptions import described_schema
from tests.providers.adapting import adapt
from tests.support.each import each

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@each(
    ("wrapped", "expected"),
    [
        ({"schema": SCHEMA}, SCHEMA),
        ({"schema": SCHEMA, "description": ""}, SCHEMA),
        ({"schema": SCHEMA, "description": "A."}, {**SCHEMA, "description": "A."}),
        ({"schema": {"description": "B."}, "description": "A."}, {"description": "A.\n\nB."}),
        ({"description": "A."}, {"description": "A."}),
        ({"schema": True, "description": "A."}, True),
    ],
)
def test_description_is_that_of_the_schema(wrapped: dict[str, Any], expected: Any) -> None:
    assert described_schema(wrapped) == expected


@each("kind", sorted(set(providers.OURS) - {"local"}))
def test_description_is_sent_or_the_format_is_reported_as_lost(kind: str) -> None:
    wrapped = {"name": "n", "description": "canary", "strict": True, "schema": SCHEMA}
    adapted = adapt(kind, {"response_format": {"type": "json_schema", "json_schema": wrapped}})
    lost = {("response_format", "drop"), ("response_format", "downgrade")} & set(adapted.actions())
    assert ("canary" in json.dumps(adapted.sent)) is not bool(lost)


def test_instruction_of_an_emulated_json_mode_has_the_description() -> None:
    wrapped = {"name": "n", "description": "canary", "schema": SCHEMA}
    asked = read_format(Body(json.dumps({"response_format": {"type": "json_schema", "json_schema": wrapped}}).encode()))
    assert asked is not None
    assert "canary" in asked.instruction()
    assert asked.find_error('{"a":"b"}') is None
