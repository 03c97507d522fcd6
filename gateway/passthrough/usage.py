"""Reads the usage that a passed answer reports, from a copy of its bytes after it has been sent, or from an event of the realtime API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from providers.anthropic.answers import service_tier
from providers.base import Usage
from providers.usage import COST_FIELDS, read_count, read_usage

RESPONSE_DONE = "response.done"
"""The event of the realtime API that reports the usage of a response."""
MAX_ANSWER_BYTES = 8 << 20
"""Maximum size of an answer whose usage is read."""
_NO_CALLS = frozenset({"batch"})
"""Values of `object` in answers that report the usage of other calls."""


class _Answer(msgspec.Struct):
    usage: Any = None
    model: Any = None
    object: Any = None
    service_tier: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    response: _Answer | None = None


class ReportedUsage(NamedTuple):
    """The usage of an answer, and the model that it names ("" if it names none)."""

    usage: Usage
    model: str


_decode = msgspec.json.Decoder(_Answer).decode
_decode_event = msgspec.json.Decoder(_Event).decode


class AnswerCopy:
    """A copy of one JSON answer, discarded if it becomes too large."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Keep a piece."""
        self._size += len(piece)
        if self._size <= MAX_ANSWER_BYTES:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def reported(self) -> ReportedUsage | None:
        """Return the usage of the complete answer, or None if the answer reports none or was too large."""
        return usage_in(b"".join(self._pieces)) if self._size <= MAX_ANSWER_BYTES else None


def copy_for(method: str, status: int, headers: Sequence[tuple[bytes, bytes]]) -> AnswerCopy | None:
    """Return an empty copy if the answer may report usage, else None.

    Such an answer is a successful response to a POST, with uncompressed JSON of moderate size.
    """
    if method != "POST" or not 200 <= status < 300:
        return None
    values = dict(headers)
    if b"json" not in values.get(b"content-type", b"").lower() or values.get(b"content-encoding", b"identity").lower() != b"identity":
        return None
    length = values.get(b"content-length", b"")
    return None if length.isdigit() and int(length) > MAX_ANSWER_BYTES else AnswerCopy()


def usage_in(answer: bytes) -> ReportedUsage | None:
    """Return the usage of a JSON answer in OpenAI's or Anthropic's format, or None."""
    try:
        found = _decode(answer)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    usage = None if found.object in _NO_CALLS else _usage_of(found)
    return None if usage is None else ReportedUsage(usage, found.model if type(found.model) is str else "")


def usage_of_response(event: bytes) -> Usage | None:
    """Return the usage of a `response.done` event of the realtime API, or None if the event is another one or reports no usage."""
    try:
        found = _decode_event(event)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return _usage_of(found.response) if found.type == RESPONSE_DONE and found.response is not None else None


def _usage_of(answer: _Answer) -> Usage | None:
    if type(answer.usage) is not dict:
        return None
    usage = read_usage(_as_chat_usage(answer.usage), answer.service_tier or service_tier(answer.usage))
    if usage is not None and usage.unsplit_tokens:
        # the answer reports only the sum of prompt and output tokens
        usage = structs.replace(usage.estimate(usage.unsplit_tokens, 0), reported_cost=usage.reported_cost)
    return usage


def _as_chat_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Return a usage with `input_tokens` and `output_tokens` in the form of a chat completion."""
    if "input_tokens" not in usage:
        return usage
    prompt, output = read_count(usage["input_tokens"]), usage.get("output_tokens", 0)
    read, written = (read_count(usage.get(f"cache_{name}_input_tokens")) or 0 for name in ("read", "creation"))
    details = usage.get("input_tokens_details") or usage.get("input_token_details")  # the realtime API uses the second name
    details = details if type(details) is dict else {}
    if prompt is not None:
        prompt += read + written  # Anthropic does not include cached tokens in `input_tokens`
    return {
        **{name: usage[name] for name in (*COST_FIELDS, "cache_creation") if name in usage},
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": usage.get("total_tokens"),
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written, **details},
        "completion_tokens_details": usage.get("output_tokens_details") or usage.get("output_token_details"),
    }
