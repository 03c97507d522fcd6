"""The OpenAPI document is valid, and describes each route of both listeners and no others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.dialects.azure import DEPLOYMENTS, ENDINGS
from gateway.dialects.table import DIALECTS, call_paths
from gateway.openapi.document import Listener, document, document_json
from gateway.server.app import other_routes
from gateway.server.endpoints import Endpoints
from gateway.server.own_key import OwnKey
from gateway.server.stored_responses import StoredResponses
from tests.admin.conftest import Admin, admin

__all__ = ["admin"]
METHODS = {"get", "post", "put", "patch", "delete"}
REJECTING = ("post_only", "cancel", "compact")
"""Endpoints whose only answer is an error."""


def described(listener: Listener) -> set[tuple[str, str]]:
    """Return the method and the whole path of each operation, with all prefixes of its path."""
    return {
        (method.upper(), server["url"].partition("}")[2] + path)
        for path, item in document(listener)["paths"].items()
        for server in item["servers"]
        for method in METHODS & item.keys()
    }


def routed(routes: Any) -> set[tuple[str, str]]:
    """Return the method and the path of each route."""
    shown = [route for route in routes if route.endpoint.__name__ not in REJECTING]
    return {(method, route.path.replace(":path", "")) for route in shown for method in route.methods - {"HEAD"}}


def test_document_is_valid_openapi() -> None:
    assert list(OpenAPIV31SpecValidator(document()).iter_errors()) == []


def test_callers_document_has_each_route_and_no_others() -> None:
    dialect_of = call_paths(DIALECTS)
    gateway: Any = None
    routes = other_routes(Endpoints(gateway, dialect_of), StoredResponses(gateway), OwnKey(gateway), dialect_of)
    served = routed(routes) | {("POST", path) for path in dialect_of}
    served |= {("POST", f"{DEPLOYMENTS}{{name}}{end}") for end in ENDINGS}
    assert described("callers") == served, "add missing routes to gateway/openapi/callers.py"


async def test_admin_document_has_each_route_and_no_others(admin: Admin) -> None:
    app: Any = admin.client._transport.app  # type: ignore[attr-defined]
    assert described("admin") == routed(app.routes), "add missing routes to gateway/openapi/admin.py"


def test_document_of_all_has_the_operations_of_both() -> None:
    assert described("all") == described("callers") | described("admin")


@pytest.mark.parametrize("listener", ["all", "callers", "admin"])
def test_json_is_the_document_and_has_every_component_that_it_refers_to(listener: Listener) -> None:
    text = document_json(listener)
    whole = json.loads(text)
    assert whole == json.loads(json.dumps(document(listener)))
    for name in {reference.split('"')[0] for reference in text.decode().split('"$ref":"#/')[1:]}:
        part = whole
        for step in name.split("/"):
            part = part[step]


def test_calls_that_stream_are_documented_as_event_streams() -> None:
    streaming = {
        path
        for path, item in document("callers")["paths"].items()
        for method in METHODS & item.keys()
        if "text/event-stream" in item[method]["responses"]["200"]["content"]
    }
    assert streaming == {"/chat/completions", "/completions", "/messages", "/responses", "/v2/chat"}


async def test_admin_listener_serves_the_document_of_both(admin: Admin) -> None:
    answer = await admin.client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.content == document_json("all")
    assert answer.headers["x-request-id"]
