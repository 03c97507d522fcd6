"""The prompt and the answer of a call as span attributes of the GenAI conventions, for traces with `capture_content`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from gateway.call import Call

MAX_CONTENT_BYTES = 64 << 10
"""Maximum size of a captured prompt, and of a captured answer."""
_encode = msgspec.json.Encoder().encode


class _Message(msgspec.Struct):
    content: Any = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    text: Any = None
    index: int = 0
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Answer).decode


class CapturedAnswer:
    """The first MAX_CONTENT_BYTES of a response body."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def wrap_send(self, send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """Return a `send` that also keeps the beginning of the body."""

        async def capturing_send(message: MutableMapping[str, Any]) -> None:
            body = message.get("body")
            if body and self._size < MAX_CONTENT_BYTES:
                self._pieces.append(bytes(body[: MAX_CONTENT_BYTES - self._size]))
                self._size += len(self._pieces[-1])
            await send(message)

        return capturing_send

    def attributes(self, call: Call) -> dict[str, Any]:
        """Return the prompt and the answer as span attributes."""
        prompt = _prompt(call)
        answer = _answer(b"".join(self._pieces)) if call.status == 200 else []
        return {
            "gen_ai.input.messages": _text(prompt) if prompt else None,
            "gen_ai.output.messages": _text(answer) if answer else None,
        }


def _text(messages: list[dict[str, Any]]) -> str:
    return _encode(messages)[:MAX_CONTENT_BYTES].decode("utf-8", "ignore")


def _prompt(call: Call) -> list[dict[str, Any]]:
    if call.body is None or "messages" not in call.body:
        return []
    messages = call.body.get("messages")
    return [_message(message.get("role"), message.get("content")) for message in messages if isinstance(message, dict)]


def _message(role: Any, content: Any) -> dict[str, Any]:
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return {"role": role, "parts": [{"type": "text", "content": text} for text in texts if isinstance(text, str)]}


def _answer(body: bytes) -> list[dict[str, Any]]:
    """Return the captured choices of a JSON answer or of a stream's events."""
    pieces = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")] or [body]
    texts: dict[int, list[str]] = {}
    finish_reasons: dict[int, str] = {}
    for piece in pieces:
        try:
            choices = _decode(piece).choices
        except msgspec.DecodeError:
            continue
        for choice in choices:
            message = choice.message or choice.delta
            content = message.content if message is not None else choice.text
            if isinstance(content, str):
                texts.setdefault(choice.index, []).append(content)
            if choice.finish_reason is not None:
                finish_reasons[choice.index] = choice.finish_reason
    return [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "".join(parts)}],
            "finish_reason": finish_reasons.get(index, ""),
        }
        for index, parts in sorted(texts.items())
    ]
