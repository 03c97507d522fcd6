"""One small GET over the engine's unix socket: is it there, and does its main loop still answer?"""

from __future__ import annotations

import asyncio


async def get(socket: str, path: str, limit: int = 1 << 20) -> tuple[int, bytes]:
    """Status and body. OSError or ValueError when there is no answer; it waits for as long as the caller lets it."""
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
    head, found, body = bytes(answer).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not found or len(words) < 2 or not words[1].isdigit():
        raise ValueError("the engine's answer is not HTTP")
    return int(words[1]), body


async def responds(socket: str, path: str, timeout_s: float) -> bool:
    """Whether the engine answers `path` at all in `within` seconds."""
    try:
        async with asyncio.timeout(timeout_s):
            await get(socket, path)
    except (OSError, ValueError):  # TimeoutError is an OSError
        return False
    return True
