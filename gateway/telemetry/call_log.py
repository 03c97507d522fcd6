"""The call log: one line per call, as JSON or as a short line for a terminal.

A thread writes the lines, so a full pipe or a slow disk never blocks a call. Lines that exceed the buffer are dropped
and counted. Log lines contain no prompts, answers or secrets.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import re
import threading
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gateway import accounting
from gateway.call import Attempt, Call, PassedRequest, in_ms, phases
from gateway.errors import Forbidden, GatewayError, LimitReached, NotFound, RequestTooLarge, Unauthorized, Unavailable
from gateway.store.limit import LimitStatus
from gateway.store.limit_state import MAX_STATES
from gateway.telemetry.call_content import content_of
from gateway.telemetry.line_writer import LineWriter
from providers.base import Adjustment, Usage

if TYPE_CHECKING:
    from gateway.telemetry.call_records import CallRecords

MAX_LINES = 10_000
FLUSH_INTERVAL_S = 0.1
MAX_TEXT_CHARS = 256
MAX_LINE_BYTES = 8192
CLOCK_TOLERANCE_S = 0.001
CUT_TEXT_CHARS, CUT_LIST_ITEMS = 32, 4
"""Limits for texts and lists of a record that exceeds MAX_LINE_BYTES."""
NAMES = ("key", "team", "end_user", "model")
"""Fields that are never cut, because queries of past calls compare whole names. Each value has at most 320 characters."""
LOGGED_MESSAGES = (Unauthorized, Forbidden, NotFound, RequestTooLarge, LimitReached, Unavailable)
"""Errors whose message the gateway writes. Messages of other errors may quote a prompt, so they are not logged."""
_USER = re.compile(r"[\w.@:/+=|~-]{1,128}\Z")
_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}\Z")

_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})
"""The usual finish reasons, which need no check."""

_encode = msgspec.json.Encoder().encode


class CallLog:
    """Collects lines on the event loop and writes them in a thread, after at most `flush_interval_s`."""

    def __init__(self, descriptor: int, *, human: bool, flush_interval_s: float = FLUSH_INTERVAL_S) -> None:
        self._output = LineWriter(descriptor)
        self._human = human
        self._flush_interval_s = flush_interval_s
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._work: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._writing = False
        self._dropped = 0
        self.records: CallRecords | None = None
        """Keeps the lines for queries of past calls, if calls are recorded."""

    @property
    def drops(self) -> int:
        """Number of lines dropped, because their reader was too slow or because they could not be written."""
        return self._dropped + self._output.dropped

    def add(self, call: Call, ended: float) -> None:
        """Queue the log line of a finished call, and also record it if calls are recorded."""
        if self.records is None and self._human:
            self.write(human_line(call, ended))
            return
        line = json_line(call, ended)
        if self.records is not None:
            self.records.add(line, content_of(call), _limits_of(call))
        self.write(human_line(call, ended) if self._human else line)

    def write(self, line: bytes) -> None:
        """Queue a line. Drop and count it if MAX_LINES lines are waiting."""
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush_interval_s, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._writing:
            self._timer = asyncio.get_running_loop().call_later(self._flush_interval_s, self._flush)
            return
        self._start_writing()

    def _start_writing(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_queued, name="log", daemon=True)
            self._writer.start()
        self._writing = True
        self._work.put(b"".join(self._lines))
        self._lines.clear()

    def _write_queued(self) -> None:
        """Write queued data until None is queued. This method runs in the thread."""
        while (data := self._work.get()) is not None:
            self._output.write(data)
            self._writing = False

    def close(self, timeout_s: float = 1.0) -> None:
        """Write the remaining lines. Wait at most `timeout_s` until they are written."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lines:
            self._start_writing()
        if self._writer is not None:
            self._work.put(None)
            self._writer.join(timeout_s)
            self._writer = None


def _limits_of(call: Call) -> Sequence[LimitStatus]:
    """Return the states of the limits that admitted a call. The line of a refused call already contains the states of its limits."""
    return call.reservation.statuses if call.reservation is not None and call.error is None else ()


def json_line(call: Call, ended: float) -> bytes:
    """Return the record of a call as one JSON line of at most MAX_LINE_BYTES. Longer records are cut."""
    full = record(call, ended)
    line: bytes = _encode(full)
    if len(line) >= MAX_LINE_BYTES:
        names = {name: full[name] for name in NAMES if name in full}
        line = _encode({**_cut(msgspec.to_builtins(full)), **names, "cut": True})
    return line + b"\n"


def _cut(value: Any) -> Any:
    """Shorten all texts and lists of a record."""
    if isinstance(value, str):
        return value[:CUT_TEXT_CHARS]
    if isinstance(value, dict):
        return {name: _cut(item) for name, item in value.items()}
    return [_cut(item) for item in value[:CUT_LIST_ITEMS]] if isinstance(value, list) else value


def safe_name(text: str | None) -> str | None:
    """Return a name chosen by a caller or an upstream, or `?` if it has unusual characters or more than 64 characters."""
    return text if text is None or _NAME.match(text) else "?"


def shown_user(user: str) -> str:
    """Return the name of an end user if it is one word, else the beginning of its SHA-256, because callers may send any text."""
    return user if _USER.match(user) else f"sha256:{hashlib.sha256(user.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


class _Clock:
    """The current time as text.

    Formatting costs 3 us, so the part before the milliseconds is cached for a second.
    """

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def read(self) -> str:
        """Return the time in ISO 8601, UTC, with milliseconds."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._text = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._text}{int((now - second) * 1000):03d}+00:00"


_clock = _Clock()


def _add_bill(fields: dict[str, Any], call: Call) -> None:
    """Add the bills of attempts that did not answer the call, and the cost of the call: None if a price is unknown."""
    answer = call.answered_by
    if answer is not None and answer.usage is not None and accounting.answered_at_once(call):  # the usual case, whose cost is known
        fields["cost_usd"] = None if answer.cost is None else answer.cost / accounting.NANO_PER_USD
        return
    if billed := accounting.billed_attempts(call):
        fields["billed_attempts"] = billed
    if costs := accounting.costs(call):
        fields["cost_usd"] = accounting.total_usd(costs)


def _adjustment_text(adjustment: Adjustment) -> str:
    """Return `param:action`, with the old and new value only if both are numbers, because texts may quote the request."""
    text = f"{safe_name(adjustment.param)}:{adjustment.action}"
    numbers = [value for value in (adjustment.from_, adjustment.to) if type(value) in (int, float)]
    return f"{text} {numbers[0]:.12g} -> {numbers[1]:.12g}" if len(numbers) == 2 else text


def _of_error(error: GatewayError) -> dict[str, Any]:
    fields = {"error": safe_name(error.code)}
    if error.param is not None:
        fields["param"] = safe_name(error.param)
    if isinstance(error, LOGGED_MESSAGES):
        fields["message"] = error.message[:MAX_TEXT_CHARS]
    return fields


def _add_usage(fields: dict[str, Any], usage: Usage) -> None:
    fields["prompt_tokens"] = usage.prompt_tokens
    fields["output_tokens"] = usage.completion_tokens
    if usage.cached_tokens:
        fields["cached_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        fields["reasoning_tokens"] = usage.reasoning_tokens
    if usage.estimated:
        fields["estimated"] = True


def _add_answer(fields: dict[str, Any], attempt: Attempt) -> None:
    if attempt.finish_reasons:
        fields["finish"] = [reason if reason in _FINISH_REASONS else safe_name(reason) for reason in attempt.finish_reasons[:32]]
    if attempt.cache:
        fields["cache"] = attempt.cache
    if attempt.cache == "hit":
        fields["cache_age_s"] = attempt.cache_age_s


def _of_attempt(attempt: Attempt, started: float) -> dict[str, Any]:
    """Return an attempt, with the times when it was sent and when the head of its response arrived."""
    fields = attempt.as_record()
    if attempt.sent_at:
        sent_at, began = attempt.sent_at, attempt.ended_at - attempt.ms / 1000
        if began > sent_at + CLOCK_TOLERANCE_S:  # a continued stream, whose attempts are all timed from the first one
            sent_at = min(attempt.head_at, began)
        fields["sent_ms"] = in_ms(sent_at - started)
        if attempt.head_at:
            fields["head_ms"] = in_ms(attempt.head_at - started)
    return fields


def _of_passed(passed: PassedRequest) -> dict[str, Any]:
    """Return the fields about the request of a passed call. The query is left out, because it may hold a secret."""
    fields: dict[str, Any] = {"method": passed.method, "path": passed.path[:MAX_TEXT_CHARS]}
    if passed.rpc_method:
        fields["rpc_method"] = "/".join(safe_name(part) or "?" for part in passed.rpc_method.split("/")[:3])
    if passed.tool:
        fields["tool"] = safe_name(passed.tool)
    return {**fields, "request_bytes": passed.request_bytes, "response_bytes": passed.response_bytes}


def _add_caller(fields: dict[str, Any], call: Call) -> None:
    """Add the fields about the caller: its team, its end user, its tags and the credentials it brought."""
    if call.key is not None and call.key.team:
        fields["team"] = call.key.team
    if call.end_user:
        fields["end_user"] = shown_user(call.end_user)
    if call.tags:
        fields["tags"] = call.tags
    if call.credentials:
        fields["brought_credentials"] = sorted(call.credentials)


def record(call: Call, ended: float) -> dict[str, Any]:
    """Return a call as a log record: names, numbers and timings. docs/log.md describes the fields."""
    attempt = call.final_attempt
    usage = attempt.usage if attempt is not None else None
    fields: dict[str, Any] = {
        "time": _clock.read(),
        "id": call.id,
        "client": call.client,
        "key": call.key.name if call.key else None,
        "operation": call.operation,
        "path": call.path,
        "model": call.model[:MAX_TEXT_CHARS],
        "target": attempt.target.name if attempt is not None else None,
        "status": 499 if call.abort_phase else call.status,
        "stream": call.stream,
        "ms": in_ms(ended - call.started),
    }
    if call.passed is not None:
        fields |= _of_passed(call.passed)
    _add_caller(fields, call)
    if call.route and call.route != call.model:
        fields["route"] = call.route
    if call.mirror_of:
        fields["mirror_of"] = call.mirror_of
    if call.client_id:
        fields["client_id"] = call.client_id
    if call.first_byte_at:
        fields["first_byte_ms"] = in_ms(call.first_byte_at - call.started)
    if attempt is not None:
        ours, queue, retries = phases(call, attempt)
        fields["gateway_ms"] = in_ms(ours)
        if queue:
            fields["queue_ms"] = in_ms(queue)
        if retries:
            fields["retries_ms"] = in_ms(retries)
        fields["attempts"] = [_of_attempt(each, call.started) for each in call.attempts]
        if attempt.adjustments:
            fields["adjustments"] = [_adjustment_text(each) for each in attempt.adjustments[:32]]
    if usage is not None:
        _add_usage(fields, usage)
    if call.skipped:
        fields["skipped"] = [{"target": each.target, "param": each.param} for each in call.skipped]
    _add_bill(fields, call)
    if attempt is not None:
        _add_answer(fields, attempt)
    if call.abort_phase:
        fields["aborted"] = call.abort_phase
    if call.transcript is not None and call.transcript.handovers:
        fields["continued"] = call.transcript.handovers
    if call.stream_end:
        fields["stream_end"] = call.stream_end
    if call.error is not None:
        fields |= _of_error(call.error)
        if call.limit_states:
            fields["limits"] = call.limit_states[:MAX_STATES]
    if attempt is not None and attempt.upstream_id:
        fields["upstream_id"] = attempt.upstream_id
    if call.trace is not None and call.trace.id:
        fields["trace_id"] = call.trace.id
    return fields


def human_line(call: Call, ended: float) -> bytes:
    """Return a call as a short line for a terminal."""
    fields = record(call, ended)
    tokens = f"{fields.get('prompt_tokens', '-')}+{fields.get('output_tokens', '-')} tokens"
    parts = [
        datetime.now().strftime("%H:%M:%S"),
        str(fields["status"]),
        f"{fields['model']} -> {fields['target'] or '-'}",
        f"{fields['ms']:.0f} ms",
        tokens,
    ]
    parts += [", ".join(fields["adjustments"])] if "adjustments" in fields else []
    if "error" in fields:
        parts.append(f"{fields['error']}: {fields.get('message', fields.get('param', '-'))}")
    line = "  ".join(parts).encode("ascii", "backslashreplace").decode()
    return "".join([letter if letter.isprintable() else "?" for letter in line]).encode() + b"\n"


def internal_error(id: str, error: Exception) -> bytes:
    """Return a log line with type and location of an internal error, without its message, which may quote a prompt."""
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-4:]]
    return msgspec.json.encode({"level": "error", "id": id, "error": type(error).__name__, "at": frames}) + b"\n"
