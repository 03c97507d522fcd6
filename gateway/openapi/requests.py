"""Schemas of request bodies, from the tables with which gateway.dialects checks and translates requests."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.dialects import completions, embeddings, rerank
from gateway.dialects.cohere_api.embed_request import TYPES as EMBEDDING_TYPES
from gateway.dialects.cohere_api.request import NAMES
from gateway.dialects.described import Check, Schema, nullable, schema_of
from gateway.dialects.field_checks import FORBIDDEN_FIELDS
from gateway.dialects.messages import MAX_MESSAGES, MESSAGES
from gateway.dialects.messages_api.request import OF_CHAT, TRANSLATED
from gateway.dialects.messages_api.tools import CHOICES
from gateway.dialects.parameters import CHECKS, MAX_STOP_STRINGS
from gateway.dialects.responses_api.request import INCLUDABLE, INSTEAD, NEVER, NOT_SUPPORTED, READERS
from gateway.dialects.tokenize import SWITCHES, TEXT_FIELDS, TOKENS
from gateway.emulate.logits import MAX_TOP_K, MAX_VOCABULARY

_OBJECT: Schema = {"type": "object"}
_OBJECTS: Schema = {"type": "array", "items": _OBJECT}
_BOOLEAN: Schema = {"type": "boolean"}
_TEXT: Schema = {"type": "string"}
_MODEL: Schema = {"type": "string", "minLength": 1, "description": "The name of a model that GET /v1/models lists."}
_PART: Schema = {"type": "object", "properties": {"type": _TEXT}, "required": ["type"]}
_CONTENT: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _PART}]}
_FALSE: Schema = {"enum": [False, None]}


def _body(fields: Mapping[str, Schema], *required: str) -> Schema:
    """Return the schema of a body. Fields other than those listed are allowed, because some providers accept them."""
    return {
        "type": "object",
        "properties": {"model": _MODEL, **fields},
        "required": ["model", *required],
        "propertyNames": {"not": {"enum": sorted(FORBIDDEN_FIELDS)}},
    }


def _fields(checks: Mapping[str, Check]) -> dict[str, Schema]:
    return {name: nullable(schema_of(check)) for name, check in checks.items()}


def any_model() -> Schema:
    """Return the schema of a request of which only the model is known."""
    return _body({})


def chat() -> Schema:
    """Return the schema of a chat completion request."""
    return _body({"messages": MESSAGES, **_fields(CHECKS)}, "messages")


def cohere_chat() -> Schema:
    """Return the schema of a request of Cohere's chat API."""
    messages = {"type": "array", "items": _OBJECT, "minItems": 1, "maxItems": MAX_MESSAGES}
    same = {name: nullable(schema_of(CHECKS[name])) for name in ("max_tokens", "temperature", "seed", "stream", "tools")}
    renamed = {name: nullable(schema_of(CHECKS[new])) for name, new in NAMES.items()}
    return _body({"messages": messages, **same, **renamed}, "messages")


def logits() -> Schema:
    """Return the schema of a request for next-token probabilities."""
    vocabulary = {
        "type": ["array", "null"],
        "items": {"type": "string", "minLength": 1},
        "minItems": 1,
        "maxItems": MAX_VOCABULARY,
    }
    own = {"top_k": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_TOP_K}, "filter_vocabulary": vocabulary}
    return _body({"messages": MESSAGES, **_fields(CHECKS), **own, "stream": _FALSE}, "messages")


def text_completions() -> Schema:
    """Return the schema of a text completion request."""
    prompt = schema_of(completions.FIELDS["prompt"])
    return {**_body({**_fields(completions.FIELDS), "prompt": prompt}, "prompt"), "not": {"required": ["messages"]}}


def embedding_inputs() -> Schema:
    """Return the schema of an embeddings request."""
    own = {"input": schema_of(embeddings.FIELDS["input"]), "stream": _FALSE}
    return _body({**_fields(embeddings.FIELDS), **own}, "input")


def cohere_embed() -> Schema:
    """Return the schema of a request of Cohere's embed API."""
    texts: Schema = {"type": ["array", "null"], "items": {"type": "string"}}
    inputs: Schema = {"type": ["array", "null"], "items": {"type": "object", "required": ["content"]}}
    types: Schema = {"type": ["array", "null"], "items": {"type": "string", "enum": list(EMBEDDING_TYPES)}}
    of_gateway = _fields({name: check for name, check in embeddings.FIELDS.items() if name in ("user", "timeout_microseconds")})
    dimension = _fields({"dimensions": embeddings.FIELDS["dimensions"]})["dimensions"]
    own = {"texts": texts, "images": texts, "inputs": inputs, "embedding_types": types, "output_dimension": dimension}
    return _body({**of_gateway, **own, "stream": _FALSE})


def ranking() -> Schema:
    """Return the schema of a request to rank documents."""
    own = {name: schema_of(rerank.FIELDS[name]) for name in ("query", "documents")} | {"stream": _FALSE}
    return _body({**_fields(rerank.FIELDS), **own}, "query", "documents")


def tokenize() -> Schema:
    """Return the schema of a request for the tokens of messages or of a text."""
    texts = {name: nullable(_TEXT) for name in TEXT_FIELDS}
    switches = {name: nullable(_BOOLEAN) for name in SWITCHES}
    body = _body({"messages": nullable(MESSAGES), **_fields(CHECKS), **texts, **switches})
    one = [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in ("messages", *TEXT_FIELDS)]
    return {**body, "oneOf": one}


def detokenize() -> Schema:
    """Return the schema of a request for the text of token ids."""
    return _body({"tokens": TOKENS}, "tokens")


TURN: Schema = {
    "type": "object",
    "properties": {"role": {"type": "string", "enum": ["user", "assistant", "system"]}, "content": _CONTENT},
    "required": ["role", "content"],
}
_TOOL: Schema = {
    "type": "object",
    "properties": {"type": nullable(_TEXT)},
    "if": {"properties": {"type": {"enum": ["custom", None]}}},
    "then": {"properties": {"name": _TEXT, "input_schema": _OBJECT}, "required": ["name", "input_schema"]},
}
"""A tool of the caller. Anthropic's own tools have other types, which only targets with the Messages API accept."""
_CHOICE: Schema = {
    "type": "object",
    "properties": {"type": {"enum": [*CHOICES, "tool"]}},
    "required": ["type"],
    "if": {"properties": {"type": {"const": "tool"}}},
    "then": {"properties": {"name": _TEXT}, "required": ["name"]},
}
OF_MESSAGES: dict[str, Schema] = {
    "messages": {"type": "array", "items": TURN, "minItems": 1, "maxItems": MAX_MESSAGES},
    "system": nullable(_CONTENT),
    "stop_sequences": {"type": ["array", "null"], "items": _TEXT, "maxItems": MAX_STOP_STRINGS},
    "thinking": nullable(_OBJECT),
    "tools": {"type": ["array", "null"], "items": _TOOL},
    "tool_choice": nullable(_CHOICE),
    "output_config": nullable(_OBJECT),
    "output_format": nullable(_OBJECT),
    "metadata": nullable(_OBJECT),
}
"""Fields of a Messages request that differ from those of a chat completion."""


def messages(*, counts: bool = False) -> Schema:
    """Return the schema of a Messages request. `counts` is True for a request that only counts tokens."""
    same = {name: schema for name, schema in _fields(CHECKS).items() if name not in OF_CHAT and name not in TRANSLATED}
    refused = {name: {"type": "null", "description": hint} for name, hint in OF_CHAT.items()}
    fields = {**same, **OF_MESSAGES, **refused}
    if counts:
        return _body(fields, "messages")
    cap = {**schema_of(CHECKS["max_tokens"]), "description": "Anthropic itself also accepts 0, to fill its prompt cache."}
    return _body({**fields, "max_tokens": cap}, "max_tokens", "messages")


_REASONING: Schema = {
    "type": "object",
    "properties": {
        "effort": nullable(_TEXT),
        **{name: {"enum": ["auto", "concise", "detailed", None]} for name in ("summary", "generate_summary")},
    },
}
_FORM: Schema = {"type": "object", "properties": {"type": _TEXT}, "required": ["type"]}
OF_RESPONSES: dict[str, Schema] = {
    "max_output_tokens": nullable(schema_of(CHECKS["max_completion_tokens"])),
    "max_tool_calls": {"type": ["integer", "null"]},
    "metadata": {"type": ["object", "null"], "additionalProperties": _TEXT},
    "stream_options": nullable(_OBJECT),
    "store": nullable(_BOOLEAN),
    "previous_response_id": nullable(_TEXT),
    "background": _FALSE,
    "truncation": {"enum": ["auto", "disabled", None]},
    "include": {"type": ["array", "null"], "items": {"type": "string", "enum": list(INCLUDABLE)}},
    "top_logprobs": nullable(schema_of(CHECKS["top_logprobs"])),
    "reasoning": nullable(_REASONING),
    "text": {"type": ["object", "null"], "properties": {"verbosity": nullable(_TEXT), "format": nullable(_FORM)}},
    "tools": nullable(_OBJECTS),
    "tool_choice": {"type": ["string", "object", "null"]},
    "client_metadata": nullable(_OBJECT),
    "context_management": {"type": ["array", "null"]},
}
"""Fields of a request of the Responses API that are translated."""


def responses() -> Schema:
    """Return the schema of a request of the Responses API."""
    same = {name: schema for name, schema in _fields(CHECKS).items() if name not in INSTEAD and name not in READERS}
    never: Schema = {"type": "null"}
    refused = {
        name: {**never, "description": f"Not supported: {why}."} if name in NEVER
        else {"description": f"Only at providers that have this API themselves: {why}."}
        for name, why in NOT_SUPPORTED.items()
    }  # fmt: skip
    own = {
        "input": {"anyOf": [_TEXT, _OBJECTS]},
        "instructions": nullable(_TEXT),
        **{name: OF_RESPONSES.get(name, {}) for name in READERS},
    }
    schema = _body({**same, **own, **refused}, "input")
    names = sorted(FORBIDDEN_FIELDS | INSTEAD.keys())
    return {**schema, "propertyNames": {"not": {"enum": names}}}
