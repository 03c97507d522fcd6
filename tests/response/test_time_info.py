"""Times of an answer's parts: reported by a provider, or measured."""

from __future__ import annotations

from gateway.call import Attempt
from gateway.response import time_info
from tests.support.attempts import call_with, target_named


def test_times_of_a_provider_are_read_from_time_info_or_usage() -> None:
    read = time_info.read_times(b'{"time_info":{"queue_time":0.1,"total_time":0.5}}')
    assert read == {"queue_time": 0.1, "prompt_time": None, "completion_time": None, "total_time": 0.5, "source": "provider"}
    assert (time_info.read_times(b'{"usage":{"total_time":2}}') or {})["total_time"] == 2
    assert time_info.read_times(b'{"usage":{"total_tokens":2}}') is None
    assert time_info.read_times(b'"total_time"') is None


def test_last_event_with_times_counts() -> None:
    events = b'data: {"time_info":{"total_time":1}}\n\ndata: {"time_info":{"total_time":2}}\n\ndata: {}\n\n'
    assert (time_info.read_event_times(events) or {})["total_time"] == 2


def test_measured_times_of_a_json_answer_have_no_prompt_time() -> None:
    call, attempt = call_with(), Attempt(target_named())
    attempt.sent_at, attempt.queue_s = call.started + 0.35, 0.25
    measured = time_info.measured(call, attempt)
    assert (measured["queue_time"], measured["prompt_time"], measured["source"]) == (0.25, None, "measured")
