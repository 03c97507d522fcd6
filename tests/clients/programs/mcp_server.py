"""An MCP server made with the official package, over streamable HTTP. Prints the address of its endpoint when it accepts calls."""

from __future__ import annotations

import asyncio
import os
import socket

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

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
app = Guarded(server.streamable_http_app(json_response=os.environ.get("AS_JSON") == "1"))
print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run([listener])
