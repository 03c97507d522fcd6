"""A scripted provider on loopback: it answers chat completions like OpenAI and fails as its `behaviour` specifies.

The answer depends only on the prompt. A request whose last message is the beginning of that answer gets the remaining part
of it, so that a broken stream can be continued.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import zlib
from collections.abc import Iterator
from typing import Any, Literal, get_args

import msgspec

Behaviour = Literal["ok", "slow", "dead", "cut", "busy"]
BEHAVIOURS: tuple[Behaviour, ...] = get_args(Behaviour)
SLOW_S = 8.0
"""Time for which a slow provider waits before it answers. It is longer than the demo's `first_byte_timeout`."""
CHUNK_PAUSE_S = 0.03
RETRY_AFTER_S = 5
MAX_BODY_BYTES = 64 << 20
_SENTENCES = (
    "A gateway reads each request, checks who sent it, and decides where it can go.",
    "It changes only what the chosen provider cannot accept, and it reports every change on the receipt.",
    "If a provider fails before the first word, the call goes to the next one, and the caller notices nothing.",
    "If a stream breaks in the middle, another provider continues the text from the last word.",
    "A provider that keeps failing is skipped for a while, and a probe finds out when it has recovered.",
    "Limits of keys, teams, users and models are checked together, before anything is sent.",
    "The cost of a call is known when the call ends, and it is booked once, whatever happens.",
)


def answer_to(messages: list[dict[str, Any]]) -> tuple[str, str]:
    """Return the answer to a conversation, and the part of the answer that the conversation already contains."""
    last = messages[-1] if messages else {}
    begun = str(last.get("content") or "") if last.get("role") == "assistant" else ""
    asked = messages[:-1] if begun else messages
    first = zlib.crc32(msgspec.json.encode([each.get("content") for each in asked])) % len(_SENTENCES)
    text = " ".join((*_SENTENCES[first:], *_SENTENCES[:first]))
    return text, begun if text.startswith(begun) else ""


class DemoProvider:
    """One provider. `behaviour` may change at any time; a change applies to the requests that arrive afterwards."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.behaviour: Behaviour = "ok"
        self.requests = 0
        """Requests so far, including those that were not answered."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        """A free port, known before `start`, so that a configuration can name it."""
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._accept, sock=self._socket)

    async def stop(self) -> None:
        """Stop listening, and close all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self.close()

    def close(self) -> None:
        """Close the socket. If `start` was not called, only the socket has to be closed."""
        self._socket.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection until it ends."""
        try:
            await self._answer_requests(reader, writer)
        finally:
            writer.transport.abort()

    async def _answer_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, msgspec.DecodeError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(min(_content_length(head), MAX_BODY_BYTES))
                self.requests += 1
                if not await self._answer(writer, msgspec.json.decode(body) if body else {}):
                    break

    async def _answer(self, writer: asyncio.StreamWriter, body: dict[str, Any]) -> bool:
        """Send an answer. Return whether the connection may be used again."""
        behaviour = self.behaviour
        if behaviour == "dead":
            return False
        if behaviour == "busy":
            error = msgspec.json.encode({"error": {"message": f"{self.name} is busy.", "type": "rate_limit", "code": "rate_limit"}})
            writer.write(_head("429 Too Many Requests", "application/json", len(error), f"retry-after: {RETRY_AFTER_S}\r\n") + error)
            await writer.drain()
            return True
        if behaviour == "slow":
            await asyncio.sleep(SLOW_S)
        text, begun = answer_to(body.get("messages") or [])
        words = text[len(begun) :].split(" ")
        cap = body.get("max_completion_tokens") or body.get("max_tokens") or len(words)
        finish, words = "length" if cap < len(words) else "stop", words[:cap]
        prompt = len(msgspec.json.encode(body.get("messages") or [])) // 4
        usage = {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}
        if body.get("stream"):
            return await self._stream(writer, body, words, finish, usage, behaviour)
        message = {"role": "assistant", "content": " ".join(words)}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        answer = msgspec.json.encode({**self._base(body, "chat.completion"), "choices": [choice], "usage": usage})
        writer.write(_head("200 OK", "application/json", len(answer)) + answer)
        await writer.drain()
        return True

    async def _stream(
        self, writer: asyncio.StreamWriter, body: dict[str, Any], words: list[str], finish: str, usage: dict[str, int], behaviour: Behaviour
    ) -> bool:
        """Send an answer word by word; a cut stream ends in the middle. Return whether the connection may be used again."""
        base = self._base(body, "chat.completion.chunk")
        writer.write(_head("200 OK", "text/event-stream", None))
        for index, piece in enumerate(_pieces(words)):
            if behaviour == "cut" and index > len(words) // 2:
                await writer.drain()
                return False
            delta = {"role": "assistant", "content": piece} if index == 0 else {"content": piece}
            writer.write(_chunk(_event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})))
            await writer.drain()
            await asyncio.sleep(CHUNK_PAUSE_S)
        last = {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage}
        writer.write(_chunk(_event(last)) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()
        return True

    def _base(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        return {"id": f"{self.name}-{self.requests}", "object": kind, "created": 0, "model": body.get("model")}


def _content_length(head: bytes) -> int:
    """Return the size of the body of a request. Raise ValueError if `content-length` is not a number."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _head(status: str, kind: str, length: int | None, more: str = "") -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{framing}\r\n{more}\r\n".encode()


def _pieces(words: list[str]) -> Iterator[str]:
    return (word if index == 0 else f" {word}" for index, word in enumerate(words))


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
