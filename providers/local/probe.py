"""A small HTTP GET over the engine's unix socket, for health checks."""

from __future__ import annotations

import asyncio


async def get(socket: str, path: str, limit: int = 1 << 20) -> tuple[int, bytes]:
    """Return the status and the body.

    Raise OSError or ValueError if no valid answer arrives. This function has no timeout of its own.
    """
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n".encode())
        answer = bytearray()
        while piece := await reader.read(65536):
            answer += piece
            if len(answer) > limit:
                raise ValueError("the engine's answer is too large")
    finally:
        writer.transport.abort()
    head, separator, body = bytes(answer).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not separator or len(words) < 2 or not words[1].isdigit():
        raise ValueError("the engine's answer is not HTTP")
    return int(words[1]), body


async def responds(socket: str, path: str, timeout_s: float) -> bool:
    """Return whether the engine answers `path` within `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            await get(socket, path)
    except (OSError, ValueError):
        return False
    return True
