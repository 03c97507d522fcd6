"""One line per call, through a bounded buffer: JSON for machines, or a short line for people on a terminal.

Lines are collected and written by a thread, so a reader who stopped (a full pipe, a full disk) never stops a call; what does not fit
is dropped and counted. No prompts, no answers, no secrets.
"""

from __future__ import annotations

import asyncio
import os
import queue
import re
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway import usage as accounting
from gateway.call import Call, in_ms
from gateway.errors import Forbidden, LimitReached, NotFound, RequestTooLarge, Unauthorized, Unavailable

MAX_LINES = 10_000
FLUSH_EVERY = 0.1
MAX_TEXT = 256
MAX_LINE = 8192
SHORT, SHORTEST = 32, 4
"""Letters of a text and entries of a list in a record that would be longer than a line."""
OURS = (Unauthorized, Forbidden, NotFound, RequestTooLarge, LimitReached, Unavailable)
"""Errors whose message is of our own making; those of others may quote a prompt."""
_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}\Z")

_encode = msgspec.json.Encoder().encode


class CallLog:
    """Collects lines on the event loop, writes them in a thread."""

    def __init__(self, descriptor: int, *, human: bool) -> None:
        self._descriptor = descriptor
        self._human = human
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._work: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._writing = False
        self.drops = 0

    def add(self, call: Call, ended: float) -> None:
        """The line of a finished call."""
        self.write(human_line(call, ended) if self._human else json_line(call, ended))

    def write(self, line: bytes) -> None:
        """Queue a line; dropped and counted when the writer is too far behind."""
        if len(self._lines) >= MAX_LINES:
            self.drops += 1
            return
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_EVERY, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._writing:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_EVERY, self._flush)
            return
        self._hand_over()

    def _hand_over(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_on, name="log", daemon=True)
            self._writer.start()
        self._writing = True
        self._work.put(b"".join(self._lines))
        self._lines.clear()

    def _write_on(self) -> None:
        """The thread: one piece of work after another."""
        while (data := self._work.get()) is not None:
            _write_all(self._descriptor, data)
            self._writing = False

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is left, waiting at most `timeout_s` seconds for the reader."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lines:
            self._hand_over()
        if self._writer is not None:
            self._work.put(None)
            self._writer.join(timeout_s)
            self._writer = None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except OSError:
            return


def json_line(call: Call, ended: float) -> bytes:
    """A record as one line, never longer than MAX_LINE, whatever callers and upstreams put into it."""
    found = record(call, ended)
    line: bytes = _encode(found)
    if len(line) >= MAX_LINE:
        line = _encode({**_short(msgspec.to_builtins(found)), "cut": True})
    return line + b"\n"


def _short(value: Any) -> Any:
    """The same with the beginnings of its texts and lists."""
    if isinstance(value, str):
        return value[:SHORT]
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    return [_short(one) for one in value[:SHORTEST]] if isinstance(value, list) else value


def shown_name(text: str | None) -> str | None:
    """A name that a caller or an upstream chose, as long as it is one."""
    return text if text is None or _NAME.match(text) else "?"


class _Clock:
    """The time of day as text. A second's beginning is written once: all of it costs 3 us, and a record is written for every call."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def read(self) -> str:
        """ISO 8601 in UTC, with milliseconds."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._text = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._text}{int((now - second) * 1000):03d}+00:00"


_clock = _Clock()


def record(call: Call, ended: float) -> dict[str, Any]:
    """A call as a log record: names, numbers and timings."""
    attempt = call.final_attempt
    usage = attempt.usage if attempt is not None else None
    found: dict[str, Any] = {
        "time": _clock.read(),
        "id": call.id,
        "key": call.key.name if call.key else None,
        "operation": call.operation,
        "model": call.model[:MAX_TEXT],
        "target": attempt.target.name if attempt is not None else None,
        "status": 499 if call.abort_phase else call.status,
        "stream": call.stream,
        "ms": in_ms(ended - call.started),
    }
    if call.key is not None and call.key.team:
        found["team"] = call.key.team
    if call.mirror_of:
        found["mirror_of"] = call.mirror_of
    if call.client_id:
        found["client_id"] = call.client_id
    if call.first_byte_at:
        found["first_byte_ms"] = in_ms(call.first_byte_at - call.started)
    if attempt is not None:
        found["gateway_ms"] = in_ms(attempt.sent_at - call.started)
        found["attempts"] = [each.as_record() for each in call.attempts]
        if attempt.adjustments:
            found["adjustments"] = [f"{shown_name(each.param)}:{each.action}" for each in attempt.adjustments[:32]]
    if usage is not None:
        found["prompt_tokens"] = usage.prompt_tokens
        found["output_tokens"] = usage.completion_tokens
        if usage.cached_tokens:
            found["cached_tokens"] = usage.cached_tokens
        if usage.reasoning_tokens:
            found["reasoning_tokens"] = usage.reasoning_tokens
        if usage.estimated:
            found["estimated"] = True
    if billed := accounting.billed_attempts(call):
        found["billed_attempts"] = billed
    if (cost := accounting.cost_usd(call)) is not None:
        found["cost_usd"] = cost
    if attempt is not None and attempt.finish_reasons:
        found["finish"] = [shown_name(reason) for reason in attempt.finish_reasons[:32]]
    if call.abort_phase:
        found["aborted"] = call.abort_phase
    if call.transcript is not None and call.transcript.handovers:
        found["continued"] = call.transcript.handovers
    if call.stream_end:
        found["stream_end"] = call.stream_end
    if call.error is not None:
        found["error"] = shown_name(call.error.code)
        if call.error.param is not None:
            found["param"] = shown_name(call.error.param)
        if isinstance(call.error, OURS):
            found["message"] = call.error.message[:MAX_TEXT]
    if attempt is not None and attempt.upstream_id:
        found["upstream_id"] = attempt.upstream_id
    if call.trace is not None and call.trace.id:
        found["trace_id"] = call.trace.id
    return found


def human_line(call: Call, ended: float) -> bytes:
    """A call for a person's eyes."""
    found = record(call, ended)
    tokens = f"{found.get('prompt_tokens', '-')}+{found.get('output_tokens', '-')} tokens"
    parts = [
        datetime.now().strftime("%H:%M:%S"),
        str(found["status"]),
        f"{found['model']} -> {found['target'] or '-'}",
        f"{found['ms']:.0f} ms",
        tokens,
    ]
    parts += [", ".join(found["adjustments"])] if "adjustments" in found else []
    if "error" in found:
        parts.append(f"{found['error']}: {found.get('message', found.get('param', '-'))}")
    line = "  ".join(parts).encode("ascii", "backslashreplace").decode()
    return "".join([letter if letter.isprintable() else "?" for letter in line]).encode() + b"\n"


def internal_error(id: str, error: Exception) -> bytes:
    """One log line that says where the gateway failed; no message, as it might quote a prompt."""
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-4:]]
    return msgspec.json.encode({"level": "error", "id": id, "error": type(error).__name__, "at": frames}) + b"\n"
