"""What was said in a call, for traces that are asked for it: the prompt and the answer in the form of the GenAI conventions, bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from gateway.call import Call

MOST = 64 << 10
"""Bytes of a prompt, and of an answer."""
_encode = msgspec.json.Encoder().encode


class _Message(msgspec.Struct):
    content: Any = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    text: Any = None
    index: int = 0
    finish_reason: str | None = None


class _Said(msgspec.Struct):
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Said).decode


class Captured:
    """The beginning of what a caller gets."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def tap(self, send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """`send`, with a copy of the body's beginning kept."""

        async def tapped(message: MutableMapping[str, Any]) -> None:
            body = message.get("body")
            if body and self._size < MOST:
                self._pieces.append(bytes(body[: MOST - self._size]))
                self._size += len(self._pieces[-1])
            await send(message)

        return tapped

    def attributes(self, call: Call) -> dict[str, Any]:
        """The prompt and the answer."""
        prompt = _prompt(call)
        said = _answer(b"".join(self._pieces)) if call.status == 200 else []
        return {
            "gen_ai.input.messages": _text(prompt) if prompt else None,
            "gen_ai.output.messages": _text(said) if said else None,
        }


def _text(messages: list[dict[str, Any]]) -> str:
    return _encode(messages)[:MOST].decode("utf-8", "ignore")


def _prompt(call: Call) -> list[dict[str, Any]]:
    if call.body is None or "messages" not in call.body:
        return []
    messages = call.body.get("messages")
    return [_message(one.get("role"), one.get("content")) for one in messages if isinstance(one, dict)]


def _message(role: Any, content: Any) -> dict[str, Any]:
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return {"role": role, "parts": [{"type": "text", "content": text} for text in texts if isinstance(text, str)]}


def _answer(body: bytes) -> list[dict[str, Any]]:
    """The choices of a JSON answer, or of a stream's events, as far as they were kept."""
    pieces = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")] or [body]
    texts: dict[int, list[str]] = {}
    ends: dict[int, str] = {}
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
                ends[choice.index] = choice.finish_reason
    return [
        {"role": "assistant", "parts": [{"type": "text", "content": "".join(found)}], "finish_reason": ends.get(index, "")}
        for index, found in sorted(texts.items())
    ]
