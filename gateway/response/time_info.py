"""The times of an answer's parts in seconds, shown in the receipt as `time_info`: reported by the provider, or measured here.

The times are part of the receipt, because a field `time_info` in the body could collide with a field of a provider.

provider   the times that `providers.times` finds in an answer, and the timings of the local engine
measured   queue_time is the wait for a slot of the target (`max_concurrent`). In a stream, prompt_time lasts from the
           sending of the request to the first content, and completion_time from there to the end. A JSON answer
           arrives as a whole: prompt_time is null, and completion_time is the whole time at the upstream. total_time
           also includes the gateway's own time and earlier attempts
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.call import Attempt, Call, phases
from providers.base import TIMES
from providers.times import TIME_MARKS, TIME_NAMES, reported_times

if TYPE_CHECKING:
    from gateway.response.upstream_exchange import UpstreamExchange

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def has_times(data: bytes) -> bool:
    """Return whether an answer or a piece of a stream may contain times."""
    return any(mark in data for mark in TIME_MARKS)


def read_times(data: bytes) -> dict[str, Any] | None:
    """Return the times in a JSON answer or one chunk."""
    if not has_times(data):
        return None
    try:
        answer = _decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    times = reported_times(answer)
    return from_provider(times) if times else None


def read_event_times(events: bytes) -> dict[str, Any] | None:
    """Return the times in the last of these events that contains times."""
    found = [read_times(event.removeprefix(b"data: ")) for event in events.split(b"\n\n") if event]
    return next((one for one in reversed(found) if one is not None), None)


def from_provider(times: Mapping[str, float]) -> dict[str, Any]:
    """Return a provider's own times in seconds. Times that it does not report are null."""
    return {**{name: times.get(name) for name in TIME_NAMES}, "source": "provider"}


def of_exchange(exchange: UpstreamExchange) -> dict[str, Any] | None:
    """Return the times that the decoder of the only upstream request reported, if any."""
    times = exchange.options.memo.get(TIMES) if exchange.upstream_calls == 1 else None
    return from_provider(times) if times else None


def measured(call: Call, attempt: Attempt) -> dict[str, Any]:
    """Return the times that this process measured for a call that ends now."""
    now = time.monotonic()
    spoke = call.first_byte_at if call.stream and call.first_byte_at else 0.0
    return {
        "queue_time": round(phases(call, attempt).queue, 6),
        "prompt_time": round(spoke - attempt.sent_at, 6) if spoke else None,
        "completion_time": round(now - (spoke or attempt.sent_at), 6),
        "total_time": round(now - call.started, 6),
        "source": "measured",
    }
