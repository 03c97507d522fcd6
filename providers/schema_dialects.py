"""The dialects of JSON Schema that vendors enforce, as of 2026-11. The field `source` of each dialect names the source of its rules."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from providers.rules.schema_dialect import Dialect

_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"))
_UNSUPPORTED_PATTERN = re.compile(r"\(\?|\\[1-9bB]")
"""Groups that begin with `(?`, backreferences and word boundaries."""


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
    source="platform.claude.com on structured outputs; anthropic 2.14.0 (transform_schema); dify-official-plugins#3886",
    always=True,
    falls_back=False,
    keeps=frozenset({
        "type", "enum", "const", "default", "title", "description", "required", "properties", "$defs",
        "definitions", "anyOf", "allOf", "items", "pattern", "format", "minItems",
    }),
    supports=_anthropic_supports,
    rewrites_one_of=True,
    needs_type=True,
    recursive=False,
)

ANTHROPIC_TOOL_SCHEMAS = msgspec.structs.replace(ANTHROPIC_SCHEMAS, always=False)
"""For tools with `strict: true`."""

CEREBRAS_SCHEMAS = Dialect(
    source="inference-docs.cerebras.ai: structured outputs (schema limitations), versions (2, the default since 2026-07-21)",
    removes=frozenset({"$anchor"}),
    supports=lambda key, value: key != "items" or value is not True,
    moves_definitions=True,
    type_lists=False,
    recursive=False,
    max_chars=5_000,
)

OPENAI_SCHEMAS = Dialect(
    source="OpenAI's guide on structured outputs (supported schemas); openai 3.52.0 (to_strict_json_schema); "
    "root: podly_pure_podcasts#89, neurolink#1691; schemas without a type: oh-my-pi#211",
    removes=frozenset({
        "allOf", "oneOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else", "minLength",
        "maxLength", "uniqueItems", "contains", "minContains", "maxContains", "patternProperties",
        "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties", "unevaluatedItems",
    }),
    supports=lambda key, value: key != "format" or value in _FORMATS,
    rewrites_one_of=True,
    all_required=True,
    root_object=True,
    needs_type=True,
)

GROQ_SCHEMAS = Dialect(
    source="console.groq.com/docs/structured-outputs (strict mode, root); beeai-framework#1215 (array lengths)",
    removes=frozenset({"minItems", "maxItems"}),
    all_required=True,
    root_object=True,
)

_XAI_FORMATS = frozenset(("date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "uri"))
_XAI_LIMITS = {
    "minLength": 2_048, "maxLength": 2_048, "minItems": 256, "maxItems": 256, "minProperties": 64, "maxProperties": 64,
}  # fmt: skip
_XAI_UNSUPPORTED_PATTERN = re.compile(r"\\(?:[1-9bBpPk])|\(\?(?!:)")
"""Backreferences, word boundaries, property escapes, lookaround and inline modifiers."""


def _xai_guarantees(key: str, value: Any) -> bool:
    """Return whether a keyword is enforced with this value."""
    if key == "format":
        return value in _XAI_FORMATS
    if key == "allOf":
        return type(value) is list and len(value) == 1
    limit = _XAI_LIMITS.get(key)
    return key not in ("not", "if", "then", "else") and (limit is None or type(value) is not int or value <= limit)


XAI_SCHEMAS = Dialect(
    source="docs.x.ai/developers/model-capabilities/text/structured-outputs (also for tools, which are always strict)",
    always=True,
    falls_back=False,
    removes=frozenset({"minContains", "maxContains"}),
    supports=lambda key, value: key != "pattern" or (type(value) is str and not _XAI_UNSUPPORTED_PATTERN.search(value)),
    guarantees=_xai_guarantees,
    closes=False,
    tuples=False,
    booleans=False,
    recursive=False,
)

_GEMINI_KEYWORDS = frozenset({
    "type", "title", "description", "properties", "required", "additionalProperties", "enum", "format", "minimum", "maximum",
    "items", "prefixItems", "minItems", "maxItems", "anyOf", "$ref", "$defs", "propertyOrdering",
    "$schema", "$id", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly",
})  # fmt: skip

GEMINI_SCHEMAS = Dialect(
    source="ai.google.dev/gemini-api/docs/structured-output (2026-02-26): other keywords are ignored",
    guarantees=lambda key, value: (
        key in _GEMINI_KEYWORDS if key != "format" else value in ("date-time", "date", "time")
    ),
    closes=False,
)

MISTRAL_SCHEMAS = Dialect(
    source="mistralai 3.7.0 (rec_strict_json_schema), mistralai/client-ts#107 (closed objects); no list of keywords is documented",
)

_COHERE_FORMATS = frozenset(("date-time", "uuid", "date", "time"))


def _cohere_supports(key: str, value: Any) -> bool:
    """Return whether a keyword is supported with this value."""
    if key == "pattern":
        return type(value) is str and not re.search(r"[\^$]|\(\?[=!]", value)
    return key != "format" or value in _COHERE_FORMATS


COHERE_SCHEMAS = Dialect(
    source="docs.cohere.com/docs/structured-outputs (schema constraints, unsupported schema features)",
    always=True,
    falls_back=False,
    removes=frozenset({
        "allOf", "oneOf", "not", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems",
        "minLength", "maxLength", "uniqueItems",
    }),
    supports=_cohere_supports,
    rewrites_one_of=True,
    closes=False,
    one_required=True,
    empty_objects=False,
    root_object=True,
)

COHERE_TOOL_SCHEMAS = msgspec.structs.replace(COHERE_SCHEMAS, always=False, empty_objects=True)
"""For tools with `strict: true`, which Cohere calls `strict_tools`."""
