"""tests.support.turns: a pause of the machine does not shorten the time that the others on the loop have."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import pytest
import uvloop

from tests.support.turns import sleep_in_turns

HOPS = 4


class Hop(asyncio.Protocol):
    """Writes what it reads to the next transport, or keeps it if there is none."""

    def __init__(self, following: asyncio.WriteTransport | None) -> None:
        self.received = b""
        self._following = following

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self._following is not None:
            self._following.write(data)


async def received_after_a_pause() -> bytes:
    """Send bytes over several connections, let the machine pause, and return what has arrived after a short sleep."""
    loop = asyncio.get_running_loop()
    last = Hop(None)
    protocol, transports = last, list[asyncio.WriteTransport]()
    for _ in range(HOPS):
        ours, theirs = socket.socketpair()
        await loop.create_connection(lambda protocol=protocol: protocol, sock=theirs)  # type: ignore[misc]
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transports.append(transport)
        protocol = Hop(transport)
    transports[-1].write(b"all")
    loop.call_soon(time.sleep, 0.1)
    await sleep_in_turns(0.05)
    received = last.received
    for each in transports:
        each.close()
    await sleep_in_turns(0.0)  # the other ends close
    return received


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_was_sent_before_a_pause_has_arrived_after_the_sleep(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(received_after_a_pause()) == b"all"
