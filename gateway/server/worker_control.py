"""Messages between a supervisor and its workers: one JSON request and reply per connection, on a unix socket of the worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from gateway.config.source import ConfigText

TARGETS_SUFFIX = ".targets"
"""Suffix of the file with a worker's target states, which is beside the worker's metrics file."""


class LoadRequest(msgspec.Struct):
    """Request to serve with this configuration. The worker replies with a LoadReply."""

    text: ConfigText
    generation: int
    engines: dict[str, str]


class LoadReply(msgspec.Struct):
    """The generation with which a worker serves. `error` states why this is not the requested generation."""

    generation: int
    error: str = ""


class WorkerOrder(msgspec.Struct):
    """Startup data of a worker, sent as JSON on its standard input because arguments would expose secrets."""

    load: LoadRequest
    listener: int
    control: str
    cells: str
    number: int
    supervisor: int
    human: bool


OnLoad = Callable[[LoadRequest], Awaitable[LoadReply]]


async def listen(path: str, on_load: OnLoad) -> asyncio.Server:
    """Serve the supervisor's requests on a unix socket."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            load = msgspec.json.decode(await reader.read(), type=LoadRequest)
            writer.write(msgspec.json.encode(await on_load(load)))
            await writer.drain()
        writer.close()

    Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 - once, before anything is served
    return await asyncio.start_unix_server(serve, path)


async def request_load(path: Path, load: LoadRequest, timeout_s: float) -> LoadReply:
    """Make a worker load a generation, and return its reply. Raise OSError, TimeoutError or DecodeError if no valid reply arrives."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(msgspec.json.encode(load))
            writer.write_eof()
            return msgspec.json.decode(await reader.read(), type=LoadReply)
        finally:
            writer.close()
