"""The record of a finished call: the fields of its log line, which call records keep as well. docs/log.md describes them.

Records contain names, numbers and timings, but no prompts, answers or secrets.
"""

from __future__ import annotations

import hashlib
import re
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway import accounting
from gateway.call import Attempt, Call, PassedRequest, in_ms, phases
from gateway.errors import Forbidden, GatewayError, LimitReached, NotFound, RequestTooLarge, Unauthorized, Unavailable
from gateway.store.limit_state import MAX_STATES
from providers.base import Adjustment, Usage

MAX_TEXT_CHARS = 256
MAX_LINE_BYTES = 8192
CUT_TEXT_CHARS, CUT_LIST_ITEMS = 32, 4
"""Limits for texts and lists of a record that exceeds MAX_LINE_BYTES."""
NAMES = ("key", "team", "end_user", "model")
"""Fields that are never cut, because queries of past calls compare whole names. Each value has at most 320 characters."""
LOGGED_MESSAGES = (Unauthorized, Forbidden, NotFound, RequestTooLarge, LimitReached, Unavailable)
"""Errors whose message the gateway writes. Of other errors, only `GatewayError.logged` is logged."""
_USER = re.compile(r"[\w.@:/+=|~-]{1,128}\Z")
_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}\Z")

_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})
"""The usual finish reasons, which need no check."""

_encode = msgspec.json.Encoder().encode


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


def record(call: Call, ended: float) -> dict[str, Any]:
    """Return a call as a log record. Every call is logged, so the usual call skips most of the steps below."""
    attempt, key = call.answered_by or call.final_attempt, call.key
    fields: dict[str, Any] = {
        "time": _clock.read(),
        "id": call.id,
        "client": call.client,
        "key": None if key is None else key.name,
        "operation": call.operation,
        "path": call.path,
        "model": call.model[:MAX_TEXT_CHARS],
        "target": None if attempt is None else attempt.target.name,
        "status": 499 if call.abort_phase else call.status,
        "stream": call.stream,
        "ms": in_ms(ended - call.started),
    }
    _add_names(fields, call)
    if call.first_byte_at:
        fields["first_byte_ms"] = in_ms(call.first_byte_at - call.started)
    if attempt is not None:
        _add_attempts(fields, call, attempt)
        if attempt.usage is not None:
            _add_usage(fields, attempt.usage)
    if call.skipped:
        fields["skipped"] = [{"target": each.target, "param": each.param} for each in call.skipped]
    if attempt is None or attempt is not call.answered_by or attempt.usage is None or len(call.attempts) > 1:
        _add_bills(fields, call)
    else:
        fields["cost_usd"] = None if attempt.cost is None else attempt.cost / accounting.NANO_PER_USD
    if attempt is not None and (attempt.finish_reasons or attempt.cache):
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


def _add_names(fields: dict[str, Any], call: Call) -> None:
    """Add the fields about a passed request, the caller and the route, the id of the mirrored call and the caller's own id."""
    if call.passed is not None:
        fields |= _of_passed(call.passed)
    if call.key is not None and call.key.team:
        fields["team"] = call.key.team
    if call.end_user:
        fields["end_user"] = shown_user(call.end_user)
    if call.tags:
        fields["tags"] = call.tags
    if call.credentials:
        fields["brought_credentials"] = sorted(call.credentials)
    if call.route and call.route != call.model:
        fields["route"] = call.route
    if call.mirror_of:
        fields["mirror_of"] = call.mirror_of
    if call.client_id:
        fields["client_id"] = call.client_id


def _of_passed(passed: PassedRequest) -> dict[str, Any]:
    """Return the fields about the request of a passed call. The query is left out, because it may hold a secret."""
    fields: dict[str, Any] = {"method": passed.method, "path": passed.path[:MAX_TEXT_CHARS]}
    if passed.rpc_method:
        fields["rpc_method"] = "/".join(safe_name(part) or "?" for part in passed.rpc_method.split("/")[:3])
    if passed.tool:
        fields["tool"] = safe_name(passed.tool)
    return {**fields, "request_bytes": passed.request_bytes, "response_bytes": passed.response_bytes}


def _add_attempts(fields: dict[str, Any], call: Call, final: Attempt) -> None:
    """Add the time of the gateway's own work, the attempts, and the adjustments of the final one."""
    started = call.started
    if len(call.attempts) == 1 and final.sent_at and not final.queue_s and not call.pauses:  # the usual case
        sent_ms = in_ms(final.sent_at - started)
        attempt = {"target": final.target.name, "outcome": final.outcome, "ms": final.ms, "sent_ms": sent_ms}
        if final.head_at:
            attempt["head_ms"] = in_ms(final.head_at - started)
        fields["gateway_ms"], fields["attempts"] = sent_ms, [attempt]
    else:
        ours, queue, retries = phases(call, final)
        fields["gateway_ms"] = in_ms(ours)
        if queue:
            fields["queue_ms"] = in_ms(queue)
        if retries:
            fields["retries_ms"] = in_ms(retries)
        fields["attempts"] = [_of_attempt(each, started) for each in call.attempts]
    if final.adjustments:
        fields["adjustments"] = [_adjustment_text(each) for each in final.adjustments[:32]]


def _of_attempt(attempt: Attempt, started: float) -> dict[str, Any]:
    """Return an attempt, with the times when it was sent and when the head of its response arrived."""
    fields = attempt.as_record()
    if attempt.sent_at:
        fields["sent_ms"] = in_ms((attempt.continued_at or attempt.sent_at) - started)
        if attempt.head_at:
            fields["head_ms"] = in_ms(attempt.head_at - started)
    return fields


def _adjustment_text(adjustment: Adjustment) -> str:
    """Return `param:action`, with the old and new value only if both are numbers, because texts may quote the request."""
    text = f"{safe_name(adjustment.param)}:{adjustment.action}"
    numbers = [value for value in (adjustment.from_, adjustment.to) if type(value) in (int, float)]
    return f"{text} {numbers[0]:.12g} -> {numbers[1]:.12g}" if len(numbers) == 2 else text


def _add_usage(fields: dict[str, Any], usage: Usage) -> None:
    fields["prompt_tokens"] = usage.prompt_tokens
    fields["output_tokens"] = usage.completion_tokens
    if usage.cached_tokens:
        fields["cached_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        fields["reasoning_tokens"] = usage.reasoning_tokens
    if usage.estimated:
        fields["estimated"] = True


def _add_bills(fields: dict[str, Any], call: Call) -> None:
    """Add the bills of attempts that did not answer the call, and the cost of the call: None if a price is unknown."""
    if billed := accounting.billed_attempts(call):
        fields["billed_attempts"] = billed
    if costs := accounting.costs(call):
        fields["cost_usd"] = accounting.total_usd(costs)


def _add_answer(fields: dict[str, Any], attempt: Attempt) -> None:
    if attempt.finish_reasons:
        if _FINISH_REASONS.issuperset(attempt.finish_reasons) and len(attempt.finish_reasons) <= 32:
            fields["finish"] = list(attempt.finish_reasons)
        else:
            fields["finish"] = [safe_name(reason) for reason in attempt.finish_reasons[:32]]
    if attempt.cache:
        fields["cache"] = attempt.cache
    if attempt.cache == "hit":
        fields["cache_age_s"] = attempt.cache_age_s


def _of_error(error: GatewayError) -> dict[str, Any]:
    fields = {"error": safe_name(error.code)}
    if error.param is not None:
        fields["param"] = safe_name(error.param)
    message = error.logged if error.logged is not None or not isinstance(error, LOGGED_MESSAGES) else error.message
    if message is not None:
        fields["message"] = message[:MAX_TEXT_CHARS]
    return fields
