"""The receipt of a call: a short form in a response header, and the full receipt in the body if requested."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway import accounting
from gateway.call import Attempt, Call, paused_after, phases
from gateway.streams.chunks import OpeningChunk
from providers.base import Adjustment, Body, Usage

MAX_HEADER_BYTES = 1024
_STOP_PARAMS = ("stop", "include_stop_str_in_output")
_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}\Z")
_SPLIT = Adjustment("usage", "warn", why="the upstream reported only the total; the tokens of the prompt and the output are estimated")
_encode = msgspec.json.Encoder().encode


def adjusted_header(adjustments: Sequence[Adjustment]) -> bytes:
    """Return the `x-gateway-adjusted` header: an RFC 8941 list of at most 1 KiB with names, numbers and booleans only."""
    items: list[str] = []
    size = 0
    for at, adjustment in enumerate(adjustments):
        item = _item(adjustment)
        size += len(item) + 2
        if size > MAX_HEADER_BYTES - 24:
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
    """Return a value as an RFC 8941 bare item, or None if it is not a short name, a number of limited size or a boolean."""
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


def receipt_of(call: Call) -> dict[str, Any]:
    """Return the receipt as it appears under `gateway` in an answer, or in a last chunk or event."""
    attempt = call.final_attempt
    usage = attempt.usage if attempt is not None else None
    receipt: dict[str, Any] = {
        "request_id": call.id,
        "model": call.model,
        "target": attempt.target.name if attempt is not None else None,
        "attempts": [_attempt_record(each, is_final=each is attempt) for each in call.attempts],
        "adjustments": attempt.adjustments if attempt is not None else [],
        "stop_matched": attempt.stop_matched if attempt is not None else None,
        "cost_usd": accounting.cost_usd(call),
        "usage_source": None if usage is None else "estimated" if usage.estimated else "reported",
        "timings": timings(call),
    }
    if attempt is not None and attempt.cache:
        receipt["cache"] = cache_record(attempt)
    if attempt is not None and attempt.time_info is not None:
        receipt["time_info"] = attempt.time_info
    if call.transcript is not None and call.transcript.handovers:
        receipt["continued"] = call.transcript.handovers
    if call.skipped:
        receipt["skipped"] = call.skipped
    if billed := accounting.billed_attempts(call):
        receipt["billed_attempts"] = billed
    if attempt is not None and attempt.context is not None:
        receipt["context"] = attempt.context
    return receipt


def cache_record(attempt: Attempt) -> dict[str, Any]:
    """Return the use of the cache by an attempt, as receipts show it."""
    return {"status": attempt.cache, **({"age_s": attempt.cache_age_s} if attempt.cache == "hit" else {})}


def encoded(call: Call) -> bytes:
    """Return the receipt as JSON."""
    return _encode(receipt_of(call))


def _attempt_record(attempt: Attempt, *, is_final: bool) -> dict[str, Any]:
    """Return the record of an attempt. The record of the final attempt lacks the adjustments, because the receipt itself has them."""
    record = attempt.as_record()
    if attempt.adjustments and not is_final:
        record["adjustments"] = attempt.adjustments
    return record


def as_caller_names(call: Call, notes: Iterable[Adjustment]) -> list[Adjustment]:
    """Return adjustments with the caller's names for the parameters."""
    if call.translator is None:
        return list(notes)
    return [msgspec.structs.replace(note, param=call.translator.param(note.param)) for note in notes]


def add_notes(call: Call, attempt: Attempt, notes: Iterable[Adjustment]) -> None:
    """Add adjustments of the answer to the attempt, except those that the attempt already has."""
    whole = list(attempt.adjustments)
    for note in as_caller_names(call, notes):
        if note not in whole:
            whole.append(note)
    attempt.adjustments = whole


def note_cut(call: Call, attempt: Attempt) -> None:
    """Report that the gateway ended the text at a stop string, unless an adjustment of the request already reports it."""
    names = _STOP_PARAMS if call.translator is None else [call.translator.param(name) for name in _STOP_PARAMS]
    if not any(each.param in names and each.action == "enforce_locally" for each in attempt.adjustments):
        why = "the upstream left the stop string in the text; the gateway removed it"
        if call.keeps_stop:
            why = "the gateway ended the text after the stop string"
        add_notes(call, attempt, [Adjustment("stop", "enforce_locally", why=why)])


def timings(call: Call) -> dict[str, float]:
    """Return the milliseconds spent in the gateway, in the queue, in earlier attempts and at the upstream, and the
    upstream's time to the first token.

    The upstream time begins when the request is ready to be sent and has a slot. Earlier attempts and the first token are left out if
    there are none. A call without an attempt has no timings.
    """
    attempt = call.final_attempt
    if attempt is None:
        return {}
    ours, queue, retries = phases(call, attempt)
    seconds = {"gateway_ms": ours, "queue_ms": queue}
    if retries:
        seconds["retries_ms"] = retries
    seconds["upstream_ms"] = time.monotonic() - attempt.sent_at - paused_after(call, attempt)
    if call.stream and call.first_byte_at:
        seconds["first_token_ms"] = call.first_byte_at - attempt.sent_at
    return {name: round(value * 1000, 3) for name, value in seconds.items()}


def add_to_answer(answer: bytes, call: Call) -> bytes:
    """Add the receipt to a JSON object as its last key. It replaces the receipt of an upstream gateway."""
    if b'"gateway"' in answer:
        whole = Body(answer)
        whole.pop("gateway")
        answer = whole.encode()
    end = answer.rindex(b"}")
    comma = b"" if answer[:end].rstrip().endswith(b"{") else b","
    return answer[:end] + comma + b'"gateway":' + _encode(receipt_of(call)) + answer[end:]


async def add_to_error(error: bytes, call: Call) -> bytes:
    """Settle a failed call, and add its receipt to the error. A stream that broke off is billed for what arrived."""
    await accounting.count_missing(call)
    accounting.settle(call)
    return add_to_answer(error, call)


def receipt_chunk(call: Call, opening: OpeningChunk) -> bytes:
    """Return the receipt as an event of the stream that began with `opening`; [DONE] follows it."""
    return _last_chunk(call, opening, "gateway", receipt_of(call))


def usage_chunk(call: Call, usage: Usage, opening: OpeningChunk) -> bytes:
    """Return a usage chunk with the gateway's own figures, for a stream that the gateway ended early or continued."""
    total = usage.prompt_tokens + usage.completion_tokens
    written = {"cache_write_tokens": usage.cache_write_tokens} if usage.cache_write_tokens else {}
    counts = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, **written},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    return _last_chunk(call, opening, "usage", counts)


def own_usage(call: Call, attempt: Attempt, opening: OpeningChunk) -> bytes:
    """Return the usage chunk that a stream lacks, else b"".

    The gateway continued the stream, or ended it at a stop string before any usage arrived, or the upstream reported only a total.
    """
    if call.transcript is not None and call.transcript.handovers:
        accounting.settle(call)
        usage: Usage | None = accounting.continued_usage(call)
    elif attempt.usage is None and attempt.stop_matched is not None:
        accounting.settle(call)
        usage = attempt.usage
    elif has_total_alone(attempt) and attempt.relays:
        return b"data: " + add_parts(call, attempt, attempt.relays[-1].usage_event) + b"\n\n"
    else:
        return b""
    return usage_chunk(call, usage, opening) if usage is not None else b""


def has_total_alone(attempt: Attempt) -> bool:
    """Return whether the upstream reported a total without the tokens of the prompt and the output."""
    return attempt.usage is not None and attempt.usage.unsplit_tokens > 0


def add_parts(call: Call, attempt: Attempt, data: bytes) -> bytes:
    """Complete the usage of an answer or chunk that has only a total with the estimates that are billed, and note this."""
    body = Body(data)
    raw = body.get("usage")
    accounting.settle(call)
    if type(raw) is not dict or attempt.usage is None:
        return data
    add_notes(call, attempt, [_SPLIT])
    prompt, output = attempt.usage.prompt_tokens, attempt.usage.completion_tokens
    made = {} if call.operation == "embeddings" else {"completion_tokens": output}
    body.set("usage", {**raw, "prompt_tokens": prompt, **made, "total_tokens": prompt + output})
    return body.encode()


def _last_chunk(call: Call, opening: OpeningChunk, name: str, value: Any) -> bytes:
    chunk = {
        "id": opening.id or call.id,
        "object": "text_completion" if call.operation == "completions" else "chat.completion.chunk",
        "created": opening.created or 0,
        "model": opening.model or call.model,
        "choices": [],
        name: value,
    }
    return b"data: " + _encode(chunk) + b"\n\n"
