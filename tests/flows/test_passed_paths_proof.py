"""Uploads and downloads of 500 MB through a gateway process, whose memory stays constant."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import pytest

from tests.running import Figure, RunningGateway
from tests.support.listener import StreamServer
from tests.support.process_memory import peak_resident_bytes, resident_bytes

pytestmark = pytest.mark.prove

SIZE = 500_000_000
PIECE = bytes(range(256)) * 1024
MAX_GROWTH_BYTES = 32 << 20


class Store:
    """A server that reads an upload to its end and returns its digest, or sends a download."""

    def __init__(self) -> None:
        self.received = 0
        self.digest = hashlib.sha256()
        self.framing: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.framing.append(b"chunked" if b"transfer-encoding: chunked" in head else b"length")
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n" % SIZE)
            for start in range(0, SIZE, len(PIECE)):
                writer.write(PIECE[: SIZE - start])
                await writer.drain()
        else:
            await (self._read_chunks(reader) if self.framing[-1] == b"chunked" else self._read(reader, SIZE))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
        writer.close()

    async def _read(self, reader: asyncio.StreamReader, size: int) -> None:
        while size:
            piece = await reader.read(min(size, 1 << 18))
            assert piece
            size -= len(piece)
            self.received += len(piece)
            self.digest.update(piece)

    async def _read_chunks(self, reader: asyncio.StreamReader) -> None:
        while size := int(await reader.readline(), 16):
            await self._read(reader, size)
            await reader.readexactly(2)
        await reader.readexactly(2)


@pytest.mark.parametrize("kind", ["upload", "chunked upload", "download"])
async def test_half_a_gigabyte_passes_in_constant_memory(gateway: Callable[..., RunningGateway], figure: Figure, kind: str) -> None:
    store = Store()
    server = StreamServer(store.serve, limit=1 << 20)
    port = server.port
    yaml = f'providers: {{ up: {{ type: openai-compatible, base_url: "http://127.0.0.1:{port}/v1" }} }}\n'
    running = await asyncio.to_thread(gateway, yaml + 'models: { m: up/x }\npassthrough: { "/v1/files/*": up }\n')
    await asyncio.to_thread(running.wait_ready)
    before = resident_bytes(running.pid)
    began = asyncio.get_running_loop().time()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1 << 20)
    framing = b"transfer-encoding: chunked" if kind == "chunked upload" else b"content-length: %d" % (0 if kind == "download" else SIZE)
    method = b"GET" if kind == "download" else b"POST"
    writer.write(method + b" /v1/files/1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" + framing + b"\r\n\r\n")
    digest = hashlib.sha256()
    for start in range(0, 0 if kind == "download" else SIZE, len(PIECE)):
        piece = PIECE[: SIZE - start]
        digest.update(piece)
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if kind == "chunked upload" else piece)
        await writer.drain()
    if kind == "chunked upload":
        writer.write(b"0\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    size = 0
    while piece := await reader.read(1 << 18):
        size += len(piece)
    writer.close()
    seconds = asyncio.get_running_loop().time() - began
    assert (size, store.received) == ((SIZE, 0) if kind == "download" else (2, SIZE))
    assert kind == "download" or store.digest.digest() == digest.digest()
    growth = peak_resident_bytes(running.pid) - before
    figure("growth of memory", growth / (1 << 20), "MiB")
    figure("throughput", SIZE / seconds / 1e6, "MB/s")
    assert growth < MAX_GROWTH_BYTES
    await server.close()
