"""The deadline for the whole answer of an MCP server."""

from __future__ import annotations

import asyncio

import pytest

from gateway.passthrough.mcp_deadlines import TimedResponse
from gateway.upstream.response import NativeResponse
from gateway.upstream.transport import Deadlines, UpstreamError


def response(*pieces: bytes, ended: bool = False) -> NativeResponse:
    """Return a response of which these pieces have arrived."""
    found = NativeResponse("POST", Deadlines(), float("inf"))
    found.status, found.pieces, found.ended = 200, list(pieces), ended
    return found


async def test_time_in_which_the_caller_reads_does_not_count() -> None:
    whole = response(b"a", ended=True)
    timed = TimedResponse(whole, 0.05, 0.0)
    await timed.begin()
    await asyncio.sleep(0.2)
    assert await timed.read() == b"a"
    whole.pieces = [b"b"]
    assert [await timed.read(), await timed.read()] == [b"b", b""]


@pytest.mark.parametrize("used_s", [0.0, 0.05, 9.0])
async def test_body_that_does_not_arrive_ends_at_the_deadline(used_s: float) -> None:
    for read in (lambda timed: timed.read(), lambda timed: timed.body(100)):
        with pytest.raises(UpstreamError) as caught:
            await read(TimedResponse(response(), 0.05, used_s))
        assert (caught.value.kind, caught.value.message) == ("timeout", "the MCP server did not send its whole answer within 0.05 s")


async def test_piece_that_has_arrived_is_read_after_the_deadline_of_the_head() -> None:
    assert await TimedResponse(response(b"a", ended=True), 0.05, 9.0).body(100) == b"a"
