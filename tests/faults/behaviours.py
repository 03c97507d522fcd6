"""Behaviours of the scripted upstream: functions that make scripts, and a catalogue of scripts by name."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from tests.faults.upstream_wire import FIN, HANG, RST, Exchange, Script
from tests.faults.upstream_wire import Step as Ending

if TYPE_CHECKING:
    from collections.abc import Mapping

Step = bytes | float | Ending

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
END = b"0\r\n\r\n"


def play(*steps: Step) -> Script:
    """Return a script that sends bytes, sleeps for numbers (seconds) and ends with FIN, RST or HANG.

    Without an ending, the connection stays open.
    """

    async def script(exchange: Exchange) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await exchange.send(step)
            elif isinstance(step, Ending):
                await {FIN: _fin, RST: _rst, HANG: Exchange.hang}[step](exchange)
            else:
                await exchange.sleep(step)

    return script


async def _fin(exchange: Exchange) -> None:
    exchange.fin()


async def _rst(exchange: Exchange) -> None:
    await exchange.sleep(0.02)  # the reset would discard bytes that the kernel has not sent yet
    exchange.rst()


def drip(script: Script, interval: float = 1.0) -> Script:
    """Return a script that sends the bytes of `script`, one every `interval` seconds."""

    async def dripping(exchange: Exchange) -> None:
        class Slow(Exchange):
            async def send(self, data: bytes) -> None:
                for byte in data:
                    await super().send(bytes((byte,)))
                    await self.sleep(interval)

        await script(Slow(exchange.server, exchange._wire, exchange.request))

    return dripping


def canned(body: bytes, code: int = 200, headers: Mapping[str, str] | None = None) -> Script:
    """Return a script that sends a complete answer with a content-length.

    Its type is `application/json` unless `headers` override it.
    """
    merged = {"content-type": "application/json", **(headers or {}), "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in merged.items())
    return play(f"HTTP/1.1 {code} Scripted\r\n{lines}\r\n".encode() + body)


def status(number: int, message: str = "scripted", headers: Mapping[str, str] | None = None, **error: Any) -> Script:
    """Return a script that sends an error in the format of OpenAI. `error` adds or replaces fields of the error object."""
    body = {"error": {"message": message, "type": "server_error", "param": None, "code": None, **error}}
    return canned(json.dumps(body).encode(), number, headers)


def sse(*events: bytes | dict[str, Any], ending: Step | None = None) -> Script:
    """Return a script that streams `data:` events in chunks, then ends the stream cleanly or with `ending`."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for event in events:
            await exchange.event(event)
        if ending is None:
            await exchange.chunk(b"")
        else:
            await play(ending)(exchange)

    return script


def chat_chunk(content: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """Return a chat.completion.chunk with one choice."""
    if content is not None:
        delta["content"] = content
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-s", "object": "chat.completion.chunk", "created": 1760000000, "model": "mock", "choices": [choice]}


def completion(text: str) -> bytes:
    """Return a JSON answer with this content, and a usage of two prompt tokens and one output token."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    return json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


WORDS = (chat_chunk("", role="assistant"), chat_chunk("one "), chat_chunk("two "))


def chunked(data: bytes) -> bytes:
    """Return one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def broken_by(*events: bytes | dict[str, Any], before: tuple[dict[str, Any], ...] = WORDS) -> Script:
    """Return a script that streams the chunks `before` ("one two ") and then, after a pause, `events`, to be read separately."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for chunk in before:
            await exchange.event(chunk)
        await exchange.sleep(0.1)
        for event in events:
            await exchange.event(event)
        await exchange.chunk(b"")

    return script


async def close_when_reused(exchange: Exchange) -> None:
    """Answer the first request of a connection. Close the connection on the second."""
    if exchange.link.requests > 1:
        exchange.fin()
    await canned(b'{"first":true}')(exchange)


async def send_endless_interim(exchange: Exchange) -> None:
    """Send 100 Continue without end."""
    while True:
        await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


async def send_endless_event(exchange: Exchange) -> None:
    """Send one event of 64 MiB without a newline."""
    await exchange.start_stream()
    await exchange.chunk(b"data: ")
    for _ in range(64 * 16):
        await exchange.chunk(b"x" * 65536)
    await exchange.chunk(b"")


async def stream_endlessly(exchange: Exchange) -> None:
    """Stream content without end."""
    await exchange.start_stream()
    while True:
        await exchange.event(chat_chunk("more "), tokens=1)
        await exchange.sleep(0)


BEHAVIOURS: dict[str, Script] = {
    "silent": play(HANG),
    "silent-after-head": play(SSE, HANG),
    "drip-head": drip(canned(b"{}")),
    "drip-body": play(JSON + b"content-length: 100000\r\n\r\n", *[step for _ in range(3600) for step in (b" ", 1.0)]),
    "fin-before-head": play(FIN),
    "rst-before-head": play(RST),
    "fin-after-head": play(SSE, FIN),
    "rst-after-head": play(SSE, RST),
    "fin-mid-stream": sse(*WORDS, ending=FIN),
    "rst-mid-stream": sse(*WORDS, ending=RST),
    "end-without-finish": sse(*WORDS),
    "stall-mid-stream": sse(*WORDS, ending=HANG),
    "short-body": play(JSON + b'content-length: 1000\r\n\r\n{"id":', FIN),
    "surplus": play(JSON + b"content-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nothers"),
    "many-headers": play(b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(1000)) + b"content-length: 2\r\n\r\n{}"),
    "big-header": play(b"HTTP/1.1 200 OK\r\nx-big: " + b"y" * 1_000_000 + b"\r\ncontent-length: 2\r\n\r\n{}"),
    "endless-interim": send_endless_interim,
    "close-delimited": play(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}", FIN),
    "close-when-reused": close_when_reused,
    "redirect": canned(b"", 302, {"location": "http://169.254.169.254/latest/meta-data"}),
    "gzip": canned(gzip.compress(b"{}"), headers={"content-encoding": "gzip"}),
    "empty": canned(b""),
    "not-text": canned(b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "\xff\xfe"}, "finish_reason": "stop"}]}'),
    "no-message": canned(b'{"choices": [{"index": 0, "finish_reason": "stop"}]}'),
    "html": canned(b"<html>502 Bad Gateway</html>", headers={"content-type": "text/html"}),
    "array": canned(b"[]"),
    "bad-json": canned(b'{"id": nope'),
    "bad-event": sse(*WORDS, b'{"choices": [nope', chat_chunk(finish="stop"), b"[DONE]"),
    "endless-event": send_endless_event,
    "infinite": stream_endlessly,
    "no-done": sse(*WORDS, chat_chunk(finish="stop")),
    "double-done": sse(*WORDS, chat_chunk(finish="stop"), b"[DONE]", b"[DONE]", chat_chunk("late "), b"[DONE]"),
    "error-instead-of-stream": canned(b'{"error":{"message":"slow down","type":"rate_limit","param":null,"code":"rate_limit_exceeded"}}'),
    "error-first-event": sse({"error": {"message": "overloaded", "type": "server_error", "code": "server_is_overloaded"}}),
    "error-mid-stream": sse(*WORDS, {"error": {"message": "exploded", "type": "server_error", "param": None, "code": "boom"}}),
    "401": status(401, "Incorrect API key provided", type="invalid_request_error", code="invalid_api_key"),
    "402": status(402, "Insufficient credits", code="insufficient_credits"),
    "404": status(404, "no such model", type="invalid_request_error", code="model_not_found"),
    "429": status(429, "slow down", {"retry-after": "1"}, type="requests", code="rate_limit_exceeded"),
    "429-quota": status(429, "You exceeded your current quota", type="insufficient_quota", code="insufficient_quota"),
    "500": status(500),
    "503": status(503, "overloaded"),
}
"""Scripts by name. A request whose `model` is such a name gets its script."""
