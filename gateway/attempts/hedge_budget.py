"""When a hedge may start: the delay before the second attempt, and the budget of a model for second attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.limit import HedgeDelay
    from gateway.targets.latency import Latency

MILLION = 10**6
MAX_SAVED_HEDGES = 10
"""Maximum number of second attempts that the budget of a model may save up."""


def hedge_delay(after: HedgeDelay, latency: Latency, *, stream: bool) -> float | None:
    """Return the seconds to wait before the second attempt, or None if too few latencies of the target are known."""
    return after.seconds if after.share is None else latency.quantile(after.share, stream=stream)


class HedgeBudget:
    """Limits second attempts to a share of a model's calls. Each call earns that share, counted in millionths."""

    __slots__ = ("_credit",)

    def __init__(self) -> None:
        self._credit = 0

    def earn(self, share: float) -> None:
        """Count one more call."""
        self._credit = min(MAX_SAVED_HEDGES * MILLION, self._credit + int(share * MILLION + 0.5))

    def take(self) -> bool:
        """Charge a second attempt to the budget. Return False if the budget is exhausted."""
        if self._credit < MILLION:
            return False
        self._credit -= MILLION
        return True

    def give_back(self) -> None:
        """Undo `take`, because the second attempt was not sent."""
        self._credit += MILLION
