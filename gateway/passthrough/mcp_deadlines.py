"""The deadlines of requests to MCP servers: for the head and the body of an answer, for pauses in event streams, and for a whole call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from msgspec import structs

from gateway.passthrough.rules import Rule
from gateway.upstream.transport import Deadlines, OnTrailing, Response, UpstreamError, in_seconds

LISTEN = "subscriptions/listen"
"""The request whose response is a stream of the server's own messages (version 2026-07-28). Earlier versions open this stream with GET."""
_MIN_LEFT_S = 0.001
T = TypeVar("T")


def deadlines_of(rule: Rule, method: str, rpc_method: str) -> Deadlines:
    """Return the deadlines of a request. Streams of the server's own messages may pause for longer than other responses."""
    assert rule.mcp is not None
    is_listening = method == "GET" or rpc_method == LISTEN
    idle = rule.mcp.listen_idle_timeout if is_listening else rule.mcp.idle_timeout
    return structs.replace(rule.backend.deadlines, first_byte=rule.mcp.timeout, idle=idle, total=rule.mcp.total_timeout)


class TimedResponse:
    """A response whose whole body must arrive before a deadline. The time that the caller takes to read does not count."""

    def __init__(self, response: Response, timeout_s: float, used_s: float) -> None:
        """`used_s` is the part of the timeout that had passed when the head of the response arrived."""
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._timeout_s = timeout_s
        self._left_s = timeout_s - used_s
        self._first: bytes | None = None

    async def begin(self) -> None:
        """Wait for the first piece, which `read` then returns, or for the end of the body. Raise UpstreamError as `read` does."""
        self._first = await self.read()

    async def read(self) -> bytes:
        """Return the next piece of the body, or b"" at its end. Raise UpstreamError on failure, or at the deadline."""
        if self._first is not None:
            piece, self._first = self._first, None
            return piece
        return await self._in_time(self._response.read())

    async def body(self, limit: int) -> bytes:
        """Return the whole body. Raise UpstreamError if it exceeds `limit` bytes, or at the deadline."""
        return await self._in_time(self._response.body(limit))

    def unread(self) -> bytes:
        """Return the part that `body` had received when it failed."""
        return self._response.unread()

    def finish(self, on_trailing: OnTrailing | None = None) -> None:
        """Stop reading, as `Response.finish` does."""
        self._response.finish(on_trailing)

    def close(self) -> None:
        """Release the connection."""
        self._response.close()

    async def _in_time(self, reading: Awaitable[T]) -> T:
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(_MIN_LEFT_S, self._left_s)):
                return await reading
        except TimeoutError:
            raise UpstreamError("timeout", f"the MCP server did not send its whole answer within {in_seconds(self._timeout_s)}") from None
        finally:
            self._left_s -= time.monotonic() - began
