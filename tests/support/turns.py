"""Waiting in tests whose callers, gateway and upstreams share one event loop."""

from __future__ import annotations

import asyncio

TURNS = 10
"""Turns of the event loop in which everything that was sent before on loopback is read, passed on and read again."""


async def sleep_in_turns(seconds: float) -> None:
    """Sleep for at least this time and at least ten turns of the event loop.

    After a pause of the machine, one long sleep can end before what had arrived meanwhile is read.
    """
    for _ in range(TURNS):
        await asyncio.sleep(seconds / TURNS)
