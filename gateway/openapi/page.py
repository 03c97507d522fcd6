"""The operations of the admin listener's page: its files, its sessions, and the data that its views read and send."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.demo.demo import DemoChange
from gateway.dialects.described import Schema
from gateway.openapi import errors
from gateway.openapi.answers import record
from gateway.openapi.operations import REF, operation_of, query_of

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_OBJECT: Schema = {"type": "object"}
_OBJECTS: Schema = {"type": "array", "items": _OBJECT}
_SERIES: Schema = {"type": "array", "items": {"type": ["number", "null"]}}
_POINTS = (
    "at", "seconds", "calls", "errors", "refused", "prompt_tokens", "output_tokens", "cost_usd", "first_token_p50_ms", "first_token_p95_ms",
)  # fmt: skip
_ALERT = record({
    "alert": _TEXT, "severity": {"enum": ["page", "ticket"]}, "state": {"enum": ["pending", "firing"]}, "since": _NUMBER,
    "for_seconds": _NUMBER, "subject": _TEXT, "summary": _TEXT,
})  # fmt: skip


def schemas() -> dict[str, Schema]:
    """Return the schemas of the page's operations."""
    _, types = msgspec.json.schema_components((DemoChange,), ref_template=REF)
    plan = record({"model": _TEXT, "route": _TEXT, "strict": {"type": "boolean"}, "targets": _OBJECTS})
    refused = record({"refused": _OBJECT, "status": _COUNT})
    return {
        **types,
        "Session": record({"required": {"type": "boolean"}, "open": {"type": "boolean"}, "csrf": _TEXT}),
        "NewSession": {**record({"key": _TEXT}), "additionalProperties": False},
        "Live": record({
            "now": _NUMBER, "step_seconds": _NUMBER, "window_seconds": _NUMBER, "points": record(dict.fromkeys(_POINTS, _SERIES)),
            "in_flight": record({"calls": _COUNT, "streams": _COUNT}),
            "shares": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _COUNT}},
            "alerts": {"type": "array", "items": _ALERT}, "engines": _OBJECT, "configuration": _OBJECT,
            "targets": {"type": "array", "items": {"$ref": REF.format(name="TargetView")}},
            "callers": record({"url": _TEXT, "requires_keys": {"type": "boolean"}}), "demo": {"type": "boolean"},
        }),
        "PlaygroundModels": record({"object": {"const": "list"}, "data": _OBJECTS}),
        "Parameters": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _OBJECT}},
        "Question": {
            "type": "object", "properties": {"body": _OBJECT, "path": _TEXT, "headers": {"type": "object", "additionalProperties": _TEXT}},
            "required": ["body"], "additionalProperties": False,
        },
        "Explanation": {"anyOf": [plan, refused]},
        "DemoState": record({
            "model": _TEXT, "behaviours": {"type": "array", "items": _TEXT}, "traffic": {"type": "boolean"}, "providers": _OBJECT,
        }),
    }  # fmt: skip


def paths() -> dict[str, dict[str, Any]]:
    """Return the path items of the page."""
    keyed, read = errors.KEYED, errors.READ
    path = {"name": "path", "in": "path", "required": True, "schema": _TEXT}
    relay = operation_of("Send a call to the callers' listener", "Json", errors.CALL | errors.OTHERS)
    relay["parameters"] = [{"name": "x-virtual-key", "in": "header", "required": False, "schema": _TEXT}]
    relay["requestBody"] = {"required": True, "content": {"application/json": {"schema": _OBJECT}}}
    begin = operation_of("Begin a session with the admin key", "Session", read, body="NewSession", status="201")
    begin["responses"]["200"] = {**begin["responses"]["201"], "description": "No admin key is required"}
    session = {
        "get": {**operation_of("The session of the page", "Session", keyed), "security": [{}]},
        "post": {**begin, "security": [{}]},
        "delete": operation_of("End the session", "Session", keyed),
    }
    return {
        "/": {"get": _file("The page")},
        "/page/{name}": {"parameters": [{**path, "name": "name"}], "get": _file("A file of the page")},
        "/admin/session": session,
        "/admin/live": {"get": {**operation_of("The last 15 minutes", "Live", keyed | {400}), "parameters": query_of(since=_NUMBER)}},
        "/admin/models": {"get": operation_of("Models with their routes and targets", "PlaygroundModels", keyed)},
        "/admin/parameters": {"get": operation_of("Parameters of the playground", "Parameters", keyed)},
        "/admin/explain": {"post": operation_of("Explain a call without sending it", "Explanation", read, body="Question")},
        "/admin/relay/{path}": {"parameters": [path], "post": relay},
        "/admin/demo": {
            "get": operation_of("The providers of the demo", "DemoState", keyed),
            "post": operation_of("Change a provider of the demo", "DemoState", read, body="DemoChange"),
        },
    }


def _file(title: str) -> dict[str, Any]:
    operation = operation_of(title, "Json", errors.ANY)
    text: Schema = {"schema": _TEXT}
    operation["responses"]["200"]["content"] = {"text/html": text, "text/javascript": text, "text/css": text, "image/svg+xml": text}
    return {**operation, "security": [{}]}
