"""What a supervisor and its workers say to each other: one question and one answer a connection, as JSON, on a worker's own socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.config.source import ConfigText

T = TypeVar("T")


class LoadRequest(msgspec.Struct):
    """Serve by this configuration; answered with a Serving."""

    text: ConfigText
    generation: int
    engines: dict[str, str]


class LoadReply(msgspec.Struct):
    """The generation that a worker serves by, and why it is not the one it was told to."""

    generation: int
    error: str = ""


OnLoad = Callable[[LoadRequest], Awaitable[LoadReply]]


async def listen(path: str, answer: OnLoad) -> asyncio.Server:
    """Answer the supervisor's questions."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            load = msgspec.json.decode(await reader.read(), type=LoadRequest)
            writer.write(msgspec.json.encode(await answer(load)))
            await writer.drain()
        writer.close()

    Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 - once, before anything is served
    return await asyncio.start_unix_server(serve, path)


async def request_load(path: Path, load: LoadRequest, kind: type[T], timeout_s: float) -> T:
    """A worker's answer; OSError, TimeoutError or DecodeError when there is none."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(msgspec.json.encode(load))
            writer.write_eof()
            return msgspec.json.decode(await reader.read(), type=kind)
        finally:
            writer.close()


TARGETS_SUFFIX = ".targets"
"""What a worker shows of its targets is beside its cells."""


class WorkerOrder(msgspec.Struct):
    """What a worker is told at its start, as JSON on its standard input: nothing that may be secret is an argument."""

    load: LoadRequest
    listener: int
    control: str
    cells: str
    number: int
    supervisor: int
    human: bool
