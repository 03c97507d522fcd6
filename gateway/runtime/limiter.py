"""Choose the limit store that the configuration names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.store.memory import MemoryLimiter
from gateway.store.redis import RedisLimiter
from gateway.store.settled_spend import SettledSpend

if TYPE_CHECKING:
    from gateway.metrics import Metrics


def limiter_of(
    config: Config, metrics: Metrics, report: Callable[[str], None], spent: SettledSpend, seat: str = ""
) -> MemoryLimiter | RedisLimiter:
    """Where limits are counted: in this process, or in the store that the configuration names, whose state each scrape shows.

    `seat` is this process's place in the fleet.
    """
    if config.store.startswith("memory:"):
        return MemoryLimiter(settled_spend=spent)
    limiter = RedisLimiter(store_address(config), report, timeout_s=config.store_deadline, settled_spend=spent, seat=seat)
    link = limiter.connections
    metrics.gauge("lockgate_store_up", lambda: {(): float(link.up)} if link.is_used else {})
    metrics.gauge("lockgate_store_members", lambda: {(state,): n for state, n in limiter.member_counts.items()} if link.is_used else {})
    metrics.gauge("lockgate_store_errors", lambda: {(kind,): n for kind, n in link.errors.items()})
    metrics.gauge("lockgate_store_commands", lambda: {(): link.commands})
    return limiter
