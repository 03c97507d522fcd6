"""An MCP server made with the official package, over streamable HTTP. Prints the address of its endpoint when it accepts calls."""

from __future__ import annotations

import asyncio
import os
import socket

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventMessage, EventStore

server = MCPServer("calculator")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def erase(path: str) -> str:
    """Erase a file."""
    return f"erased {path}"


@server.tool()
async def add_slowly(steps: int, context: Context) -> int:
    """Report progress for each step."""
    for step in range(steps):
        await context.report_progress(step + 1, steps)
        await asyncio.sleep(0.02)
    return steps


@server.tool()
async def add_after_a_break(a: int, b: int, context: Context) -> int:
    """End the stream of the request, which the client then resumes, and add two numbers."""
    await context.report_progress(1, 2)
    await context.close_sse_stream()
    await asyncio.sleep(0.3)
    return a + b


class Events(EventStore):
    """The events of all sessions in one list, with consecutive numbers as ids, which are easy to guess."""

    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        stream = self.events[int(last_event_id) - 1][0]
        for at, (of, message) in enumerate(self.events[int(last_event_id) :], int(last_event_id) + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(at)))
        return stream


@server.resource("note://one")
def note() -> str:
    """Return a note."""
    return "a note"


class Guarded:
    """Rejects every request that does not have exactly one credential, the server's own."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            if given != [b"Bearer " + os.environ["TOKEN"].encode()]:
                await send({"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]})
                await send({"type": "http.response.body", "body": b""})
                return
        await self.app(scope, receive, send)


listener = socket.create_server(("127.0.0.1", 0))
as_json = os.environ.get("AS_JSON") == "1"
app = Guarded(server.streamable_http_app(json_response=as_json, event_store=None if as_json else Events(), retry_interval=50))
print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run([listener])
