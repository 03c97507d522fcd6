"""A process that attacks a gateway: `python -m tests.faults.wire_attackers PORT SECONDS [ATTACK]`.

It prints "attacking" and at the end its connections by attack, as JSON. Without an attack, it makes all of them at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time

from tests.faults.client import FaultClient, request_head
from tests.faults.test_wire_attacks import ENDLESS, flood

SLOW = {"trickled trailer": (b"0\r\nx: ", b"y"), "trickled chunks": (b"", b"1\r\n \r\n")}
ATTACKS = {**ENDLESS, **SLOW}


async def attack(port: int, name: str, until: float) -> int:
    """Open connections and flood each until it is closed. Return the number of connections."""
    start, piece = ATTACKS[name]
    count = 0
    while time.monotonic() < until:
        async with await FaultClient.connect(port) as client:
            count += 1
            with contextlib.suppress(ConnectionError, TimeoutError):
                await client.send(request_head(None) + start)
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.1, until - time.monotonic())):
                    await flood(client, piece, 1 << 24, 0.01 if name in SLOW else 0.0)
    return count


async def main() -> None:
    """Run the attacks at the same time. They get the processor when the gateway and its other callers leave it idle."""
    os.nice(10)
    names = sys.argv[3:] or list(ATTACKS)
    sys.stdout.write("attacking\n")
    sys.stdout.flush()
    until = time.monotonic() + float(sys.argv[2])
    counts = await asyncio.gather(*[attack(int(sys.argv[1]), name, until) for name in names])
    sys.stdout.write(json.dumps(dict(zip(names, counts, strict=True))))


if __name__ == "__main__":
    asyncio.run(main())
