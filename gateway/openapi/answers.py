"""Schemas of successful answers of the callers' APIs.

Many providers' answers are passed on unchanged, so these schemas require only the members that every answer has.
"""

from __future__ import annotations

from typing import get_args

import msgspec

from gateway.dialects.described import Schema, nullable
from gateway.store.limit import OWNERS, Kind
from providers.base import Adjustment

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_OBJECT: Schema = {"type": "object"}
_RECEIPT: Schema = {"$ref": "#/components/schemas/Receipt"}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with these members, and possibly others."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def listing(name: str) -> Schema:
    """Return the schema of a list whose elements have the schema with this name."""
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


_ADJUSTMENT: Schema = {"$ref": "#/components/schemas/Adjustment"}
_COUNTED = record({"count": {"enum": ["exact", "estimated"]}, "tokenizer": nullable(_TEXT), "target": _TEXT})
_COUNTS = {"input_tokens": _COUNT, "gateway": _COUNTED}
_USD: Schema = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}
_PRICES: Schema = {
    "type": "object",
    "properties": {"steps": {"type": "array", "items": _USD}},
    "additionalProperties": {"type": "number", "minimum": 0},
}
_LIMITS: dict[str, Schema] = {"context_window": _COUNT, "max_output_tokens": _COUNT, "pricing": _PRICES}
_CHOICE = record(
    {}, {"index": _COUNT, "message": _OBJECT, "finish_reason": nullable(_TEXT), "logprobs": nullable(_OBJECT)}
)
_TEXT_CHOICE = record(
    {"text": _TEXT}, {"index": _COUNT, "finish_reason": nullable(_TEXT), "logprobs": nullable(_OBJECT)}
)
_VECTOR: Schema = {
    "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string", "contentEncoding": "base64"}]
}
_USAGE = nullable(record({}, {"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT}))
_MORE: dict[str, Schema] = {"usage": _USAGE, "gateway": _RECEIPT}
_TARGET = record({"target": _TEXT, "available": {"type": "boolean"}}, {**_LIMITS, "parameters": _OBJECT})
_PLANNED = record(
    {"target": _TEXT, "type": _TEXT},
    {
        "context": _OBJECT,
        "adjustments": {"type": "array", "items": _ADJUSTMENT},
        "error": record({"message": _TEXT}),
        "request": record(
            {"method": _TEXT, "url": _TEXT, "headers": {"type": "object", "additionalProperties": _TEXT}}
        ),
    },
)

_RANKS: Schema = {
    "type": "array",
    "items": record(
        {"index": _COUNT, "relevance_score": {"type": "number"}}, {"document": {"type": ["string", "object"]}}
    ),
}
_AMOUNT: Schema = {"type": "number", "minimum": 0}

SCHEMAS: dict[str, Schema] = {
    **msgspec.json.schema_components((Adjustment,), ref_template="#/components/schemas/{name}")[1],
    "Receipt": record(
        {
            "request_id": _TEXT,
            "model": _TEXT,
            "target": nullable(_TEXT),
            "attempts": {"type": "array", "items": _OBJECT},
            "adjustments": {"type": "array", "items": _ADJUSTMENT},
        },
        {
            "cost_usd": {"type": ["number", "null"]},
            "usage_source": {"enum": ["reported", "estimated", None]},
            "timings": _OBJECT,
            "cache": record({"status": {"enum": ["hit", "miss", "bypass"]}}, {"age_s": _COUNT}),
        },
    ),
    "ChatCompletion": record({"choices": {"type": "array", "items": _CHOICE}}, {"id": _TEXT, "object": _TEXT, **_MORE}),
    "TextCompletion": record(
        {"choices": {"type": "array", "items": _TEXT_CHOICE}}, {"id": _TEXT, "object": _TEXT, **_MORE}
    ),
    "Embeddings": record(
        {"data": {"type": "array", "items": record({"embedding": _VECTOR}, {"index": _COUNT})}},
        {"object": _TEXT, **_MORE},
    ),
    "Tokens": record(
        {
            "count": _COUNT,
            "max_model_len": nullable(_COUNT),
            "tokens": nullable({"type": "array", "items": _COUNT}),
            "exact": {"type": "boolean"},
            "tokenizer": _TEXT,
            "target": _TEXT,
        },
        {"token_strs": nullable({"type": "array", "items": _TEXT})},
    ),
    "TextOfTokens": record({"prompt": _TEXT, "text": _TEXT, "target": _TEXT}),
    "Logits": record({"logits": {"type": "object", "additionalProperties": {"type": "number"}}}, {"gateway": _RECEIPT}),
    "Rerank": {"anyOf": [record({"results": _RANKS, "meta": _OBJECT}, _MORE), record({"data": _RANKS}, _MORE)]},
    "RerankV2": record({"results": _RANKS, "meta": _OBJECT}, {"id": nullable(_TEXT), "gateway": _RECEIPT}),
    "CohereEmbed": record(
        {"id": _TEXT, "embeddings": {"anyOf": [_OBJECT, {"type": "array", "items": _VECTOR}]}},
        {"texts": {"type": "array", "items": _TEXT}, "meta": _OBJECT, "response_type": _TEXT, "gateway": _RECEIPT},
    ),
    "CohereChat": record(
        {"id": _TEXT, "finish_reason": _TEXT, "message": record({"role": {"const": "assistant"}})},
        {"usage": _OBJECT, "logprobs": {"type": "array", "items": _OBJECT}, "gateway": _RECEIPT},
    ),
    "Message": record(
        {
            "id": _TEXT,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "model": _TEXT,
            "content": {"type": "array", "items": record({"type": _TEXT})},
            "stop_reason": nullable(_TEXT),
            "stop_sequence": nullable(_TEXT),
            "usage": record({"input_tokens": _COUNT, "output_tokens": _COUNT}),
        },
        {"gateway": _RECEIPT},
    ),
    "Response": record(
        {
            "id": _TEXT,
            "object": {"const": "response"},
            "created_at": _COUNT,
            "status": {"enum": ["completed", "incomplete", "failed", "in_progress"]},
            "model": nullable(_TEXT),
            "output": {"type": "array", "items": record({"type": _TEXT})},
            "usage": nullable(record({"input_tokens": _COUNT, "output_tokens": _COUNT, "total_tokens": _COUNT})),
            "error": nullable(_OBJECT),
            "incomplete_details": nullable(record({"reason": _TEXT})),
        },
        {"gateway": _RECEIPT},
    ),
    "DeletedResponse": record({"id": _TEXT, "object": {"const": "response"}, "deleted": {"const": True}}),
    "InputItems": record(
        {
            "object": {"const": "list"},
            "data": {"type": "array", "items": record({"id": _TEXT, "type": _TEXT})},
            "first_id": nullable(_TEXT),
            "last_id": nullable(_TEXT),
            "has_more": {"type": "boolean"},
        }
    ),
    "MessageTokens": record(_COUNTS),
    "InputTokens": record({"object": {"const": "response.input_tokens"}, **_COUNTS}),
    "Model": record(
        {"id": _TEXT, "object": {"const": "model"}, "owned_by": _TEXT, "available": {"type": "boolean"}},
        {"created": _COUNT, **_LIMITS, "targets": {"type": "array", "items": _TARGET}},
    ),
    "Models": record({"object": {"const": "list"}, "data": listing("Model")}),
    "MessagesModel": record(
        {"type": {"const": "model"}, "id": _TEXT, "display_name": _TEXT, "created_at": _TEXT},
        {"max_input_tokens": nullable(_COUNT), "max_tokens": nullable(_COUNT)},
    ),
    "MessagesModels": record(
        {
            "data": listing("MessagesModel"),
            "has_more": {"type": "boolean"},
            "first_id": nullable(_TEXT),
            "last_id": nullable(_TEXT),
        }
    ),
    "Plan": record(
        {"model": _TEXT, "route": _TEXT, "strict": {"type": "boolean"}, "targets": {"type": "array", "items": _PLANNED}}
    ),
    "LimitState": record(
        {
            "owner": {"enum": list(OWNERS)},
            "name": _TEXT,
            "model": nullable(_TEXT),
            "kind": {"enum": list(get_args(Kind))},
            "window": nullable(_TEXT),
            "timezone": nullable(_TEXT),
            "unit": {"enum": ["requests", "tokens", "calls", "USD"]},
            **dict.fromkeys(("limit", "used", "remaining"), _AMOUNT),
            "reserved": nullable(_AMOUNT),
            "reset_seconds": nullable(_AMOUNT),
        },
        {"spent": _AMOUNT, "reset_at": nullable(_TEXT)},
    ),
    "OwnKey": record(
        {
            "object": {"const": "key"},
            "name": nullable(_TEXT),
            "team": nullable(_TEXT),
            "models": nullable({"type": "array", "items": _TEXT}),
            "passthrough": nullable({"type": "array", "items": _TEXT}),
            "expires": nullable(_TEXT),
            "strict": {"type": "boolean"},
            "limits": listing("LimitState"),
        },
        {"policy": _TEXT, "end_user": nullable(_TEXT)},
    ),
    "Status": record({"status": _TEXT}),
    "Json": {"type": "object", "description": "A JSON object in the form of this API."},
}
