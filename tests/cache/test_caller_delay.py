"""The delay that a caller causes: a stalled delivery, or deliveries that take longer than the upstream."""

from __future__ import annotations

from gateway.cache.caller_delay import CallerDelay


class Answer:
    """An answer whose pieces arrive and are delivered in given times, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0
        self.delay = CallerDelay(lambda: self.now)

    def piece(self, awaited: float, delivered: float) -> float:
        """Read one piece. Return the delay while it is being delivered."""
        self.delay.begin_read()
        self.now += awaited
        self.delay.end_read()
        self.now += delivered
        return self.delay.seconds


def test_the_wait_for_the_first_piece_is_not_a_delay() -> None:
    answer = Answer()
    answer.delay.begin_read()
    answer.now += 50
    assert answer.delay.seconds == 0.0
    answer.delay.end_read()
    answer.now += 2
    assert answer.delay.seconds == 2.0


def test_a_caller_that_waits_for_the_upstream_causes_no_delay() -> None:
    answer = Answer()
    answer.piece(30, 0.125)
    assert [answer.piece(0.5, 0.125) for _ in range(40)] == [0.125] * 40
    answer.delay.begin_read()
    assert answer.delay.seconds == 0.0


def test_a_caller_that_stalls_causes_a_delay_even_after_a_slow_upstream() -> None:
    answer = Answer()
    for _ in range(40):
        answer.piece(0.5, 0.125)
    assert answer.piece(0.5, 3) == 3.0


def test_a_caller_that_reads_more_slowly_than_the_upstream_sends_causes_a_delay() -> None:
    answer = Answer()
    assert [answer.piece(0.125, 0.5) for _ in range(4)] == [0.5, 1.0, 1.5, 2.0]
    answer.delay.begin_read()
    assert answer.delay.seconds == 2.0
