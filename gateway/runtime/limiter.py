"""Creates the limit store that the configuration names, and keeps it until the process ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.ledger.ledger import Ledger
from gateway.ledger.store import UsagePublisher
from gateway.store.limit import Limit, LimitUsage
from gateway.store.limit_usage import usage_at
from gateway.store.memory import MemoryLimiter
from gateway.store.redis import RedisLimiter

if TYPE_CHECKING:
    from gateway.metrics import Metrics


class LimitStore:
    """The limit store of a process.

    All generations use the same one, so that a reload does not reset counts.
    """

    def __init__(self, metrics: Metrics, report: Callable[[str], None], ledger: Ledger, seat: str) -> None:
        """`seat` identifies this process's position in the fleet, which its replacement takes over."""
        self._metrics = metrics
        self._report = report
        self._ledger = ledger
        self._seat = seat
        self._limiter: MemoryLimiter | RedisLimiter | None = None

    def limiter_for(self, config: Config) -> MemoryLimiter | RedisLimiter:
        """Return the limiter. The first call creates it from `config`; later calls ignore `config`."""
        if self._limiter is None:
            self._limiter = self._new_limiter(config)
        return self._limiter

    async def usage(self, config: Config, limits: Sequence[Limit]) -> list[LimitUsage]:
        """Return the usage of these limits. Raise StoreUnavailableError if the store fails."""
        limiter = self.limiter_for(config)
        if isinstance(limiter, RedisLimiter) and not limiter.connections.is_used:  # in a supervisor
            return await usage_at(store_address(config), limits)
        return await limiter.usage(limits)

    @property
    def in_outage(self) -> bool:
        """Whether the store has an outage whose end has not been reported."""
        return isinstance(self._limiter, RedisLimiter) and self._limiter.connections.in_reported_outage

    async def stop(self) -> None:
        if self._limiter is not None:
            await self._limiter.stop()

    def _new_limiter(self, config: Config) -> MemoryLimiter | RedisLimiter:
        if config.store.startswith("memory:"):
            return MemoryLimiter(settled_spend=self._ledger.settled_spend)
        limiter = RedisLimiter(
            store_address(config),
            self._report,
            timeout_s=config.store_deadline,
            settled_spend=self._ledger.settled_spend,
            window_usage=self._ledger.window_usage,
            seat=self._seat,
        )
        limiter.on_sync = UsagePublisher(limiter.connections.run, self._ledger.counters).publish
        _register_gauges(limiter, self._metrics)
        return limiter


def _register_gauges(limiter: RedisLimiter, metrics: Metrics) -> None:
    connections = limiter.connections

    def member_counts() -> dict[tuple[str, ...], float]:
        return {(state,): count for state, count in limiter.member_counts.items()}

    metrics.gauge("lockgate_store_up", lambda: {(): float(limiter.decides)} if connections.is_used else {})
    metrics.gauge("lockgate_store_members", lambda: member_counts() if connections.is_used else {})
    metrics.gauge("lockgate_store_errors", lambda: {(kind,): count for kind, count in connections.errors.items()})
    metrics.gauge("lockgate_store_commands", lambda: {(): connections.commands})
