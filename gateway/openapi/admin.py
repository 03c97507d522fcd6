"""The operations of the admin listener."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from gateway.config.key import KeyConfig, TeamConfig
from gateway.config.schema import schema_of_struct
from gateway.config.struct_types import struct_type
from gateway.dialects.described import Schema, nullable
from gateway.explain.route_request import RouteRequest
from gateway.ledger.query import COLUMNS, GroupBy
from gateway.openapi import errors, page
from gateway.openapi.answers import record
from gateway.openapi.operations import REF, operation_of, query_of
from gateway.targets.status import TargetView
from gateway.telemetry.record_query import PARAMS

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_OBJECT: Schema = {"type": "object"}



def _counts() -> Schema:
    return record({**dict.fromkeys(COLUMNS, _COUNT), "cost_usd": {"type": "number", "minimum": 0}})


def schemas() -> dict[str, Schema]:
    """Return the schemas of this listener. Some are generated from the types that the listener reads and writes."""
    _, types = msgspec.json.schema_components((RouteRequest, TargetView), ref_template=REF)
    reloads = {
        "generation": _COUNT,
        "path": _TEXT,
        "loaded_at": {"type": "number"},
        "reloads": {"type": "object", "additionalProperties": _COUNT},
        "last_reload": record({"at": {"type": "number"}, "successful": {"type": "boolean"}}),
        "error": {"type": "array", "items": _OBJECT},
        "rejected": {"type": "array", "items": _TEXT},
        "changes": {"type": "array", "items": _TEXT},
        "needs_restart": {"type": "array", "items": _TEXT},
    }
    return {
        **types,
        "Health": record({"status": {"enum": ["ok", "ready", "starting", "draining"]}}, {"engines": _OBJECT}),
        "Targets": record({"targets": {"type": "array", "items": {"$ref": REF.format(name="TargetView")}}}),
        "RoutePlan": {"anyOf": [record({"model": _TEXT, "route": {}}), record({"refused": _TEXT})]},
        **_schemas_of_keys(),
        **page.schemas(),
        "Usage": record(
            {
                "by": {"enum": list(get_args(GroupBy))},
                "from": _TEXT,
                "to": _TEXT,
                "source": {"enum": ["store", "process", "workers", "some_workers"]},
                "rows": {"type": "array", "items": _counts()},
                "total": _counts(),
            }
        ),
        "Calls": record(
            {"object": {"const": "list"}, "data": {"type": "array", "items": _OBJECT}},
            {"has_more": {"type": "boolean"}, "total": _OBJECT},
        ),
        "Limits": record({"object": {"const": "list"}, "data": {"type": "array", "items": {"$ref": REF.format(name="LimitState")}}}),
        "Configuration": record({**reloads, "config": _OBJECT}),
        "Reload": record({"outcome": {"enum": ["applied", "failed", "unchanged"]}, **reloads}),
    }


def _schemas_of_keys() -> dict[str, Schema]:
    """Return the schemas of virtual keys and teams. Their fields are those of the configuration, without the hash."""
    return {
        **_schemas_of("key", KeyConfig, {"shown": _TEXT, "previous": {"type": "array", "items": record({"until": _TEXT})}}),
        **_schemas_of("team", TeamConfig, {}),
        "CreatedKey": _with_fields("Key", {"key": _TEXT}, {"note": _TEXT}),
        "CreatedTeam": _with_fields("Team", {}, {"note": _TEXT}),
        "RotatedKey": _with_fields("Key", {"key": _TEXT}, {}),
        "Rotation": {"type": "object", "properties": {"grace": nullable(_TEXT)}, "additionalProperties": False},
        "RevokedKey": record({"object": {"const": "key"}, "name": _TEXT, "revoked": {"const": True}}),
        "RemovedTeam": record({"object": {"const": "team"}, "name": _TEXT, "removed": {"const": True}}),
    }


def _schemas_of(kind: str, type_: type, more: dict[str, Schema]) -> dict[str, Schema]:
    """Return the schemas of keys or teams: of a change, a new entry, an existing entry, a changed entry, and a list."""
    name = kind.capitalize()
    fields = schema_of_struct(struct_type(type_))["properties"]
    settings = {field: _or_null(schema) for field, schema in fields.items() if field != "hash"}
    changes = {field: _or_null(_merge_patch(schema)) for field, schema in fields.items() if field != "hash"}
    usage = _or_null({"type": "array", "items": {"$ref": REF.format(name="LimitState")}})
    entry = record(
        {"object": {"const": kind}, "name": _TEXT, "source": {"enum": ["yaml", "runtime"]}, "disabled": {"type": "boolean"}},
        {"created": _COUNT, "usage": usage, **more},
    )
    return {
        f"{name}Changes": {"type": "object", "properties": changes},
        f"New{name}": {
            "type": "object",
            "properties": {"name": {"type": "string", "minLength": 1}, **settings},
            "required": ["name"],
        },
        name: entry,
        f"Changed{name}": _with_fields(name, {"removed": _OBJECT, "changed": _OBJECT, "added": _OBJECT}, {}),
        f"{name}s": record(
            {"object": {"const": "list"}, "data": {"type": "array", "items": {"$ref": REF.format(name=name)}}}
        ),
    }


def _with_fields(name: str, required: dict[str, Schema], optional: dict[str, Schema]) -> Schema:
    return {"allOf": [{"$ref": REF.format(name=name)}, record(required, optional)]}


def _merge_patch(schema: Schema) -> Schema:
    """Return the schema of a change according to RFC 7396: each member of an object may be null, and null removes the member."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [_merge_patch(each) for each in schema["anyOf"]]}
    patch = {name: value for name, value in schema.items() if name != "required"}
    if "properties" in schema:
        patch["properties"] = {name: _or_null(_merge_patch(each)) for name, each in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        patch["additionalProperties"] = _or_null(_merge_patch(schema["additionalProperties"]))
    return patch


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_CHANGES = errors.READ | errors.OTHERS
_NAMED = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


def paths() -> dict[str, dict[str, Any]]:
    """Return the path items of the admin listener."""
    open_, keyed = errors.ANY, errors.KEYED
    ready = operation_of("Whether the process should receive calls", "Health", open_)
    ready["responses"]["503"] = {**ready["responses"]["200"], "description": "Starting or draining"}
    reload = operation_of("Read the configuration again", "Reload", keyed)
    reload["responses"]["422"] = {**reload["responses"]["200"], "description": "The file is invalid"}
    return {
        "/healthz": {"get": {**operation_of("Whether the process responds", "Health", open_), "security": [{}]}},
        "/readyz": {"get": {**ready, "security": [{}]}},
        "/metrics": {"get": _metrics()},
        "/admin/targets": {"get": operation_of("Health and load of the targets", "Targets", keyed)},
        "/admin/route": {
            "post": operation_of("Plan where calls would go", "RoutePlan", errors.READ, body="RouteRequest")
        },
        **_paths_of("key"),
        "/admin/keys/{name}/rotate": {
            "parameters": [_NAMED],
            "post": _rotate(),
        },
        **_paths_of("team"),
        "/admin/usage": {"get": _usage()},
        "/admin/calls": {"get": {**operation_of("Past calls", "Calls", keyed), "parameters": query_of(**dict.fromkeys(PARAMS, _TEXT))}},
        "/admin/calls/{id}": {
            "parameters": [{**_NAMED, "name": "id"}],
            "get": {
                **operation_of("The calls with this id", "Calls", keyed | errors.READ),
                "parameters": query_of(content={"type": "boolean"}),
            },
        },
        "/admin/limits": {
            "get": {
                **operation_of("Show the usage of the limits", "Limits", errors.KEYED),
                "parameters": query_of(owner=_TEXT),
            }
        },
        "/admin/config": {"get": operation_of("Show the configuration, with secrets masked", "Configuration", keyed)},
        "/admin/reload": {"post": reload},
        "/openapi.json": {"get": operation_of("This document", "Json", keyed)},
        **page.paths(),
    }


def _paths_of(kind: str) -> dict[str, Any]:
    """Return the path items of keys or teams."""
    name = kind.capitalize()
    change = operation_of(f"Change a {kind}", f"Changed{name}", _CHANGES, body=f"{name}Changes")
    remove = ("Revoke a key", "RevokedKey") if kind == "key" else ("Remove a team", "RemovedTeam")
    return {
        f"/admin/{kind}s": {
            "get": operation_of(f"List the {kind}s", f"{name}s", errors.KEYED),
            "post": operation_of(f"Create a {kind}", f"Created{name}", _CHANGES, body=f"New{name}", status="201"),
        },
        f"/admin/{kind}s/{{name}}": {
            "parameters": [_NAMED],
            "get": operation_of(f"Show a {kind}", name, errors.KEYED),
            "patch": change,
            "post": change,
            "delete": operation_of(*remove, _CHANGES),
        },
    }


def _rotate() -> dict[str, Any]:
    operation = operation_of("Give a key a new secret", "RotatedKey", _CHANGES, body="Rotation")
    operation["requestBody"]["required"] = False
    return operation


def _metrics() -> dict[str, Any]:
    operation = operation_of("Metrics for Prometheus", "Json", errors.KEYED)
    text = {"schema": {"type": "string"}}
    operation["responses"]["200"]["content"] = {"text/plain": text, "application/openmetrics-text": text}
    return {**operation, "parameters": query_of(scope={"type": "string", "enum": ["instance", "fleet"]})}


def _usage() -> dict[str, Any]:
    operation = operation_of("Usage and cost", "Usage", errors.KEYED)
    operation["responses"]["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    day: Schema = {"type": "string", "format": "date"}
    columns: Schema = {"type": "string", "enum": list(get_args(GroupBy))}
    return {
        **operation,
        "parameters": query_of(by=columns, from_=day, to=day, format={"type": "string", "enum": ["json", "csv"]}),
    }
