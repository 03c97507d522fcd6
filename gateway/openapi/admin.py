"""The operations of the admin listener."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from gateway.config.key import KeyConfig
from gateway.config.schema import schema_of_struct
from gateway.config.struct_types import struct_type
from gateway.dialects.described import Schema
from gateway.explain.route_request import RouteRequest
from gateway.ledger.query import COLUMNS, GroupBy
from gateway.openapi import errors
from gateway.openapi.answers import record
from gateway.store.limit import OWNERS, Kind
from gateway.targets.status import TargetView

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_OBJECT: Schema = {"type": "object"}
_REF = "#/components/schemas/{name}"


def _counts() -> Schema:
    return record({**dict.fromkeys(COLUMNS, _COUNT), "cost_usd": {"type": "number", "minimum": 0}})


def schemas() -> dict[str, Schema]:
    """Return the schemas of this listener. Some are generated from the types that the listener reads and writes."""
    _, types = msgspec.json.schema_components((RouteRequest, TargetView), ref_template=_REF)
    reloads = {
        "generation": _COUNT,
        "path": _TEXT,
        "loaded_at": {"type": "number"},
        "reloads": {"type": "object", "additionalProperties": _COUNT},
        "last_reload": record({"at": {"type": "number"}, "successful": {"type": "boolean"}}),
        "error": {"type": "array", "items": _OBJECT},
        "needs_restart": {"type": "array", "items": _TEXT},
    }
    return {
        **types,
        "Health": record({"status": {"enum": ["ok", "ready", "starting", "draining"]}}, {"engines": _OBJECT}),
        "Targets": record({"targets": {"type": "array", "items": {"$ref": _REF.format(name="TargetView")}}}),
        "RoutePlan": {"anyOf": [record({"model": _TEXT, "route": {}}), record({"refused": _TEXT})]},
        **_schemas_of_keys(),
        "Usage": record(
            {
                "by": {"enum": list(get_args(GroupBy))},
                "from": _TEXT,
                "to": _TEXT,
                "source": {"enum": ["store", "process"]},
                "rows": {"type": "array", "items": _counts()},
                "total": _counts(),
            }
        ),
        "Limits": record({"object": {"const": "list"}, "data": {"type": "array", "items": _limit()}}),
        "Configuration": record({**reloads, "config": _OBJECT}),
        "Reload": record({"outcome": {"enum": ["applied", "failed", "unchanged"]}, **reloads}),
    }


def _limit() -> Schema:
    """Return the schema of a limit and what is used of it."""
    amount: Schema = {"type": "number", "minimum": 0}
    text_or_null = _or_null(_TEXT)
    return record(
        {
            "owner": {"enum": list(OWNERS)},
            "name": _TEXT,
            "model": text_or_null,
            "kind": {"enum": list(get_args(Kind))},
            "window": text_or_null,
            "timezone": text_or_null,
            "unit": {"enum": ["requests", "tokens", "calls", "USD"]},
            **dict.fromkeys(("limit", "used", "remaining"), amount),
            "reserved": _or_null(amount),
            "reset_seconds": _or_null(amount),
        }
    )


def _schemas_of_keys() -> dict[str, Schema]:
    """Return the schemas of virtual keys. Their fields are those of the configuration, without the hash."""
    fields = schema_of_struct(struct_type(KeyConfig))["properties"]
    changes: Schema = {
        "type": "object",
        "properties": {name: _or_null(schema) for name, schema in fields.items() if name != "hash"},
    }
    new = {
        **changes,
        "properties": {"name": {"type": "string", "minLength": 1}, **changes["properties"]},
        "required": ["name"],
    }
    key = record(
        {
            "object": {"const": "key"},
            "name": _TEXT,
            "source": {"enum": ["yaml", "runtime"]},
            "disabled": {"type": "boolean"},
        },
        {"shown": _TEXT, "created": _COUNT},
    )
    return {
        "KeyChanges": changes,
        "NewKey": new,
        "Key": key,
        "CreatedKey": {
            **key,
            "required": [*key["required"], "key"],
            "properties": {**key["properties"], "key": _TEXT, "note": _TEXT},
        },
        "Keys": record(
            {"object": {"const": "list"}, "data": {"type": "array", "items": {"$ref": _REF.format(name="Key")}}}
        ),
        "RevokedKey": record({"object": {"const": "key"}, "name": _TEXT, "revoked": {"const": True}}),
    }


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_CHANGES = errors.READ | errors.OTHERS


def paths() -> dict[str, dict[str, Any]]:
    """Return the path items of the admin listener."""
    open_, keyed = errors.ANY, errors.KEYED
    named = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    change = _operation("Change a key", "Key", _CHANGES, body="KeyChanges")
    ready = _operation("Whether the process should receive calls", "Health", open_)
    ready["responses"]["503"] = {**ready["responses"]["200"], "description": "Starting or draining"}
    reload = _operation("Read the configuration again", "Reload", keyed)
    reload["responses"]["422"] = {**reload["responses"]["200"], "description": "The file is invalid"}
    return {
        "/healthz": {"get": {**_operation("Whether the process responds", "Health", open_), "security": [{}]}},
        "/readyz": {"get": {**ready, "security": [{}]}},
        "/metrics": {"get": _metrics()},
        "/admin/targets": {"get": _operation("Health and load of the targets", "Targets", keyed)},
        "/admin/route": {
            "post": _operation("Plan where calls would go", "RoutePlan", errors.READ, body="RouteRequest")
        },
        "/admin/keys": {
            "get": _operation("List the keys", "Keys", keyed),
            "post": _operation("Create a key", "CreatedKey", _CHANGES, body="NewKey", status="201"),
        },
        "/admin/keys/{name}": {
            "parameters": [named],
            "get": _operation("Show a key", "Key", keyed),
            "patch": change,
            "post": change,
            "delete": _operation("Revoke a key", "RevokedKey", _CHANGES),
        },
        "/admin/usage": {"get": _usage()},
        "/admin/limits": {
            "get": {
                **_operation("What is used of the limits", "Limits", errors.KEYED),
                "parameters": _query(owner=_TEXT),
            }
        },
        "/admin/config": {"get": _operation("Show the configuration, with secrets masked", "Configuration", keyed)},
        "/admin/reload": {"post": reload},
        "/openapi.json": {"get": _operation("This document", "Json", keyed)},
    }


def _operation(
    title: str, answer: str, failures: frozenset[int], *, body: str | None = None, status: str = "200"
) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": _REF.format(name=answer)}}}
    success = {"description": title, "content": content}
    operation = {
        "summary": title,
        "tags": ["admin"],
        "responses": {status: success, **errors.responses(failures, "Error")},
    }
    if body is not None:
        reference = {"schema": {"$ref": _REF.format(name=body)}}
        operation["requestBody"] = {"required": True, "content": {"application/json": reference}}
    return operation


def _query(**schemas: Schema) -> list[dict[str, Any]]:
    return [
        {"name": name.rstrip("_"), "in": "query", "required": False, "schema": schema}
        for name, schema in schemas.items()
    ]


def _metrics() -> dict[str, Any]:
    operation = _operation("Metrics for Prometheus", "Json", errors.KEYED)
    text = {"schema": {"type": "string"}}
    operation["responses"]["200"]["content"] = {"text/plain": text, "application/openmetrics-text": text}
    return {**operation, "parameters": _query(scope={"type": "string", "enum": ["instance", "fleet"]})}


def _usage() -> dict[str, Any]:
    operation = _operation("Usage and cost", "Usage", errors.KEYED)
    operation["responses"]["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    day: Schema = {"type": "string", "format": "date"}
    columns: Schema = {"type": "string", "enum": list(get_args(GroupBy))}
    return {
        **operation,
        "parameters": _query(by=columns, from_=day, to=day, format={"type": "string", "enum": ["json", "csv"]}),
    }
