"""The parts of a call's time: in the gateway, in a queue, in earlier attempts."""

from __future__ import annotations

import pytest

from gateway.call import Attempt, Call, paused_after, phases
from tests.support.attempts import target_named


def call_of(*attempts: tuple[float, float, float], pause: tuple[float, float] | None = None) -> Call:
    """Return a call from the seconds at which each attempt was sent, its seconds at the target, and those in the queue.

    `pause` is the second at which a pause began, and its seconds.
    """
    call = Call("chat", "/v1/chat/completions", started=100.0)
    call.pauses = () if pause is None else ((100.0 + pause[0], pause[1]),)
    call.attempts = [Attempt(target_named(), sent_at=100.0 + sent, ms=lasted * 1000, queue_s=queue) for sent, lasted, queue in attempts]
    return call


@pytest.mark.parametrize(
    ("call", "final", "expected"),
    [
        (call_of((0.002, 1, 0)), 0, (0.002, 0, 0)),
        (call_of((0.602, 1, 0.6)), 0, (0.002, 0.6, 0)),
        (call_of((0.001, 2, 0), (2.002, 1, 0)), 1, (0.002, 0, 2)),
        (call_of((0.001, 2, 0), (3.002, 1, 1)), 1, (0.002, 1, 2)),
        (call_of((5.001, 0, 5), (5.002, 1, 0)), 1, (0.002, 5, 0)),
        (call_of((0.001, 2, 0), (2.602, 1, 0), pause=(2.001, 0.6)), 1, (0.002, 0, 2.6)),
        # a hedge: the other attempt began earlier and ran on, or began later
        (call_of((0.001, 9, 0), (0.501, 1, 0)), 1, (0.001, 0, 0.5)),
        (call_of((0.501, 1, 0), (0.001, 9, 0)), 1, (0.001, 0, 0)),
        (call_of((0.001, 2, 0), (0.501, 2, 0), (2.502, 1, 0)), 2, (0.002, 0, 2.5)),
        # a continued stream has the time of the attempt that began it
        (call_of((0.302, 4, 0.3), (0.302, 9, 1)), 1, (0.002, 0.3, 0)),
    ],
    ids=["one", "queue", "retry", "retry-queue", "shed", "pause", "hedge-won", "hedge-lost", "hedge-failed", "continued"],
)  # fmt: skip
def test_phases_of_a_call_add_up_to_the_time_until_its_final_attempt(
    call: Call, final: int, expected: tuple[float, float, float]
) -> None:
    found = phases(call, call.attempts[final])
    assert found == pytest.approx(expected, abs=1e-6)
    assert sum(found) == pytest.approx(call.attempts[final].sent_at - call.started)


def test_pause_before_a_request_that_is_not_sent_is_no_time_of_the_gateway_or_of_the_upstream() -> None:
    call = call_of((0.001, 2, 0), (2.602, 1, 0), pause=(2.001, 0.6))
    call.pauses += ((103.602, 0.8),)
    assert phases(call, call.attempts[1]) == pytest.approx((0.002, 0, 3.4), abs=1e-6)
    assert paused_after(call, call.attempts[1]) == pytest.approx(0.8)
    alone = call_of((0.002, 1, 0), pause=(101.002, 0.8))
    assert phases(alone, alone.attempts[0]) == pytest.approx((0.002, 0, 0.8), abs=1e-6)


def test_record_of_an_attempt_shows_its_wait_only_if_there_was_one() -> None:
    waited, sent = call_of((0.602, 1, 0.6), (2.0, 1, 0)).attempts
    assert waited.as_record() == {"target": "a/x", "outcome": "ok", "ms": 1000.0, "queue_ms": 600.0}
    assert "queue_ms" not in sent.as_record()
