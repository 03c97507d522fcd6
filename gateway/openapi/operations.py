"""Builds the operations of the admin listener: a JSON answer, errors in one form, an optional body, and query parameters."""

from __future__ import annotations

from typing import Any

from gateway.dialects.described import Schema
from gateway.openapi import errors

REF = "#/components/schemas/{name}"


def operation_of(
    title: str, answer: str, failures: frozenset[int], *, body: str | None = None, status: str = "200"
) -> dict[str, Any]:
    """Return an operation. `answer` and `body` are names of schemas; `failures` are the statuses of the operation's errors."""
    content = {"application/json": {"schema": {"$ref": REF.format(name=answer)}}}
    success = {"description": title, "content": content}
    operation = {
        "summary": title,
        "tags": ["admin"],
        "responses": {status: success, **errors.responses(failures, "Error")},
    }
    if body is not None:
        reference = {"schema": {"$ref": REF.format(name=body)}}
        operation["requestBody"] = {"required": True, "content": {"application/json": reference}}
    return operation


def query_of(**schemas: Schema) -> list[dict[str, Any]]:
    """Return optional query parameters. An underscore at the end of a name is removed."""
    return [
        {"name": name.rstrip("_"), "in": "query", "required": False, "schema": schema}
        for name, schema in schemas.items()
    ]
