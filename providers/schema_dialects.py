"""The dialects of JSON Schema that vendors enforce, as of 2026-11. Each has its source."""

from __future__ import annotations

import re
from typing import Any

from providers.rules.schemas import Dialect

_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"))
_UNSUPPORTED_PATTERN = re.compile(r"\(\?|\\[1-9bB]")
"""Lookaround, backreferences and word boundaries."""


def _anthropic_supports(key: str, value: Any) -> bool:
    """Return whether a keyword is supported with this value."""
    if key == "pattern":
        return type(value) is str and not _UNSUPPORTED_PATTERN.search(value)
    if key == "format":
        return value in _FORMATS
    if key == "minItems":
        return type(value) is int and value in (0, 1)
    return key != "items" or type(value) is dict


ANTHROPIC_SCHEMAS = Dialect(
    source="platform.claude.com on structured outputs; anthropic 2.11.0 (transform_schema)",
    keeps=frozenset({
        "type", "enum", "const", "default", "title", "description", "required", "properties", "$defs",
        "definitions", "anyOf", "allOf", "items", "pattern", "format", "minItems",
    }),
    supports=_anthropic_supports,
    rewrites_one_of=True,
    recursive=False,
)

CEREBRAS_SCHEMAS = Dialect(
    source="inference-docs.cerebras.ai: structured outputs, versions (2, the default since 2026-07-21)",
    moves_definitions=True,
)

OPENAI_SCHEMAS = Dialect(
    source="OpenAI's guide on structured outputs (supported schemas); openai 3.52.0 (to_strict_json_schema)",
    removes=frozenset({
        "allOf", "oneOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else", "minLength",
        "maxLength", "uniqueItems", "contains", "minContains", "maxContains", "patternProperties",
        "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties", "unevaluatedItems",
    }),
    supports=lambda key, value: key != "format" or value in _FORMATS,
    rewrites_one_of=True,
    all_required=True,
)

GROQ_SCHEMAS = Dialect(source="console.groq.com/docs/structured-outputs (strict mode)", all_required=True)
