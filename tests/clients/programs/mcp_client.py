"""Uses an MCP server with the official client: tools, a tool that is not allowed, progress, a resource and the end of the session."""

from __future__ import annotations

import asyncio
import json
import os

from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client


async def use(mode: str) -> dict[str, object]:
    """Return the results of the client in one mode."""
    progress = []

    async def note(done, total, message):
        progress.append(done)

    http = create_mcp_http_client(headers={"authorization": f"Bearer {os.environ['API_KEY']}"})
    async with http, Client(streamable_http_client(os.environ["URL"], http_client=http), mode=mode) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        added = await client.call_tool("add", {"a": 2, "b": 3})
        slow = await client.call_tool("add_slowly", {"steps": 5}, progress_callback=note)
        try:
            erased = await client.call_tool("erase", {"path": "/"})
            refused = "called" if not erased.is_error else "error"
        except Exception as error:
            refused = str(error)
        resumed = (await client.call_tool("add_after_a_break", {"a": 4, "b": 5})).content[0].text if mode == "legacy" else "9"
        read = await client.read_resource("note://one")
        version = client.session.protocol_version
    return {
        "tools": sorted(tools),
        "added": added.content[0].text,
        "slow": slow.content[0].text,
        "progress": progress,
        "resumed": resumed,
        "refused": refused,
        "note": read.contents[0].text,
        "version": version,
    }


async def main() -> None:
    """Print the results of both modes."""
    print(json.dumps({mode: await use(mode) for mode in ("legacy", "auto")}))


asyncio.run(main())
