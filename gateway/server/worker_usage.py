"""Usage of workers for their supervisor: one JSON request and reply per connection, on a unix socket of the worker.

The supervisor asks for this usage only while the store is unavailable. Otherwise the store has the usage of all processes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from gateway.ledger.counters import UsageCounters
from gateway.ledger.records import RowCopy

SUFFIX = ".usage"
"""Suffix of this socket, which is beside the worker's control socket."""
ASK_TIMEOUT_S = 2.0

_encode = msgspec.json.Encoder().encode


async def serve_usage(control: str, counters: UsageCounters) -> asyncio.Server:
    """Answer the supervisor's requests for the rows of certain days."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            days = msgspec.json.decode(await reader.read(), type=frozenset[str])
            writer.write(_encode([copy for copy in counters.all_copies() if copy[1].day in days]))
            await writer.drain()
        writer.close()

    path = Path(f"{control}{SUFFIX}")
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, before anything is served
    return await asyncio.start_unix_server(answer, path)


async def usage_of_workers(
    controls: Iterable[Path], days: Sequence[str], timeout_s: float = ASK_TIMEOUT_S
) -> tuple[list[RowCopy], bool]:
    """Return the workers' rows of these days, and whether all workers have answered."""
    asked = [_ask(Path(f"{control}{SUFFIX}"), days, timeout_s) for control in controls]
    answers = await asyncio.gather(*asked)
    return [copy for answer in answers for copy in answer or ()], None not in answers


async def _ask(path: Path, days: Sequence[str], timeout_s: float) -> list[RowCopy] | None:
    """Return one worker's rows of these days, or None if the worker does not answer."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(_encode(days))
                writer.write_eof()
                return msgspec.json.decode(await reader.read(), type=list[RowCopy])
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.DecodeError):
        return None
