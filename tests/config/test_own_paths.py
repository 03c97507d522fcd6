"""The table of the gateway's own paths has every route of the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.config.load import parse
from gateway.config.own_paths import own_path_in
from gateway.dialects.table import DIALECTS, call_paths
from gateway.runtime.gateway import Gateway
from gateway.server.app import _other_routes
from gateway.telemetry.call_log import CallLog


def routes() -> Iterator[str]:
    """Yield the paths of all routes, with `x` for a parameter."""
    config = parse(b'providers: { local: {} }\nmodels: { "*": local/x }', "g.yaml", environ={})
    gateway = Gateway(config, CallLog(2, human=True), lambda line: None)
    dialects = call_paths(DIALECTS)
    yield from dialects
    route: Any
    for route in _other_routes(gateway, dialects).routes:
        yield "/".join("x" if segment.startswith("{") else segment for segment in route.path.split("/"))


def test_no_pattern_can_cover_a_route_of_the_server() -> None:
    for path in routes():
        assert own_path_in(path) is not None, f"add {path} to gateway/config/own_paths.py"
        parent = path.rpartition("/")[0]
        assert own_path_in(f"{parent}/*") is not None, path


def test_paths_beside_the_routes_are_free() -> None:
    free = ["/v1/audio/*", "/v1/files/*", "/v1/batches", "/v1/messages/batches/*", "/v1/vector_stores/*", "/vendor/x/*"]
    assert [path for path in free if own_path_in(path)] == []
    own = ["/*", "/v1/*", "/v1/chat/*", "/v1/models/x", "/v1/responses/*", "/openai/*"]
    assert [path for path in own if not own_path_in(path)] == []
