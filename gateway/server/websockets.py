"""The callers' WebSocket handshakes: a handshake is passed if the pattern of its path allows WebSockets, and is rejected otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, MutableMapping
from typing import Any

from gateway.config.mcp import undeclared_server
from gateway.config.passthrough_check import example_entry
from gateway.errors import GatewayError
from gateway.http.caller import Send
from gateway.http.json_body import Receive
from gateway.http.rejection import UPGRADE_UNSUPPORTED
from gateway.http.request_id import next_id
from gateway.passthrough.rules import Rule
from gateway.passthrough.websocket import WebSocketCaller
from gateway.runtime.gateway import Gateway


def serve_websocket(
    gateway: Gateway, scope: MutableMapping[str, Any], receive: Receive, send: Send
) -> Awaitable[None]:
    """Pass a handshake to the provider of its path, or reject it."""
    pipeline = gateway.generation.pipeline
    rule = pipeline.passed.find(scope["raw_path"]) if pipeline.passed is not None else None
    if rule is not None and rule.allows_websocket:
        return pipeline.pass_socket(rule, scope, receive, send)
    return _reject(gateway, rule, scope, receive, send)


async def _reject(
    gateway: Gateway, rule: Rule | None, scope: MutableMapping[str, Any], receive: Receive, send: Send
) -> None:
    """Reject a handshake. Without a valid key, the response does not reveal which paths exist."""
    generation = gateway.generation
    caller = WebSocketCaller(scope, receive, send, generation.pipeline.deadlines)
    try:
        await generation.keys.identify(caller.headers, caller.query)
        error = _unsupported(rule, scope["path"][:100])
        gateway.count_edge_refusal(UPGRADE_UNSUPPORTED[1])
    except GatewayError as refused:
        error = refused
    body = error.as_body()
    headers = [(b"x-request-id", next_id().encode()), (b"content-type", b"application/json"), *error.headers]
    await caller.respond(error.status, [*headers, (b"content-length", b"%d" % len(body))], body)


def _unsupported(rule: Rule | None, path: str) -> GatewayError:
    """Return the error for a path without WebSocket connections, with advice if the configuration can allow them."""
    status, code, message = UPGRADE_UNSUPPORTED
    example = None if rule is not None else example_entry(path, websocket=True)
    if rule is not None and rule.mcp is not None:
        message = f"WebSocket connections are not passed on {rule.pattern}. MCP servers use streamable HTTP: send messages with POST."
    elif rule is not None:
        message = f"WebSocket connections are not passed on {rule.pattern}. Set 'websocket: true' there in the gateway's configuration."
    elif advice := undeclared_server(path):
        message = f"WebSocket connections are not passed on {path}. {advice} MCP servers use streamable HTTP: send messages with POST."
    elif example is not None:
        message = (
            f"WebSocket connections are not passed on {path}. To pass them to a provider, declare the path in the gateway's "
            f"configuration: passthrough: {{ {example} }}."
        )
    return GatewayError(message, status=status, code=code, type="invalid_request_error")
