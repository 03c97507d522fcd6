"""Reads the usage that a passed answer reports, from a copy of its bytes after it has been sent, or from an event of the realtime API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from providers.any_usage import ReportedUsage as Answer
from providers.base import Usage

RESPONSE_DONE = "response.done"
"""The event of the realtime API that reports the usage of a response."""
MAX_ANSWER_BYTES = 8 << 20
"""Maximum size of an answer whose usage is read."""
_NO_CALLS = frozenset({"batch"})
"""Values of `object` in answers that report the usage of other calls."""


class _Event(msgspec.Struct):
    type: Any = None
    response: Answer | None = None


class ReportedUsage(NamedTuple):
    """The usage of an answer, and the model that it names ("" if it names none)."""

    usage: Usage
    model: str


_decode = msgspec.json.Decoder(Answer).decode
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
    usage = None if found.object in _NO_CALLS else found.read()
    return None if usage is None else ReportedUsage(usage, found.model if type(found.model) is str else "")


def usage_of_response(event: bytes) -> Usage | None:
    """Return the usage of a `response.done` event of the realtime API, or None if the event is another one or reports no usage."""
    try:
        found = _decode_event(event)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return found.response.read() if found.type == RESPONSE_DONE and found.response is not None else None
