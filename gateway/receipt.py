"""What we tell the caller about a call: a short header before the first byte, and the whole story in the body when asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.call import Call
from gateway.relay import OpeningChunk
from providers.base import Adjustment, Body

MAX_HEADER = 1024
_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}\Z")
_encode = msgspec.json.Encoder().encode


def header(adjustments: Sequence[Adjustment]) -> bytes:
    """The `x-gateway-adjusted` header: an RFC 8941 list, at most 1 KiB, names and numbers only."""
    items: list[str] = []
    size = 0
    for at, adjustment in enumerate(adjustments):
        item = _item(adjustment)
        size += len(item) + 2
        if size > MAX_HEADER - 24:
            items.append(f'"...";more={len(adjustments) - at}')
            break
        items.append(item)
    return ", ".join(items).encode()


def _item(adjustment: Adjustment) -> str:
    param = adjustment.param if _NAME.match(adjustment.param) else "?"
    item = f'"{param}";{adjustment.action}'
    for key, value in (("from", adjustment.from_), ("to", adjustment.to)):
        bare = _bare(value)
        if bare is not None:
            item += f";{key}={bare}"
    return item


def _bare(value: Any) -> str | None:
    """A value as an RFC 8941 bare item; None for what is no name and no number."""
    if value is True or value is False:
        return "?1" if value else "?0"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**15 else None
    if isinstance(value, float):
        text = f"{value:.3f}".rstrip("0")
        return (text + "0" if text.endswith(".") else text) if abs(value) < 10**12 - 1 else None
    if isinstance(value, str) and _NAME.match(value):
        return f'"{value}"'
    return None


def body(call: Call) -> dict[str, Any]:
    """The receipt as it stands under `gateway` in an answer, a last chunk, or an explanation."""
    usage = call.usage
    found: dict[str, Any] = {
        "request_id": call.id,
        "model": call.model,
        "target": call.target.name if call.target else None,
        "attempts": call.attempts,
        "adjustments": call.adjustments,
        "stop_matched": call.stop_matched,
        "usage_source": None if usage is None else "estimated" if usage.estimated else "reported",
        "timings": timings(call),
    }
    if call.time_info is not None:
        found["time_info"] = call.time_info
    if call.context is not None:
        found["context"] = call.context
    return found


def timings(call: Call) -> dict[str, float]:
    """Milliseconds: until the request was ready to send, until the upstream's head, until the first byte went out."""
    found = {"gateway_ms": call.sent_at, "upstream_ms": call.upstream_at, "first_byte_ms": call.first_byte_at}
    return {name: round((at - call.started) * 1000, 3) for name, at in found.items() if at}


def splice(answer: bytes, call: Call) -> bytes:
    """A JSON object's bytes with the receipt added as its last key; a receipt of another gateway behind us gives way."""
    if b'"gateway"' in answer:
        whole = Body(answer)
        whole.pop("gateway")
        answer = whole.encode()
    end = answer.rindex(b"}")
    comma = b"" if answer[:end].rstrip().endswith(b"{") else b","
    return answer[:end] + comma + b'"gateway":' + _encode(body(call)) + answer[end:]


def chunk(call: Call, opening: OpeningChunk) -> bytes:
    """The receipt as one more event of the stream that began with `opening`, before [DONE]."""
    answer = {
        "id": opening.id or call.id,
        "object": "chat.completion.chunk",
        "created": opening.created or 0,
        "model": opening.model or call.model,
        "choices": [],
        "gateway": body(call),
    }
    return b"data: " + _encode(answer) + b"\n\n"
