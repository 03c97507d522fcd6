"""The limit store that a configuration names."""

from __future__ import annotations

from gateway.ledger.ledger import Ledger
from gateway.metrics import Metrics
from gateway.runtime.limiter import LimitStore
from gateway.store.memory import MemoryLimiter
from gateway.store.redis import RedisLimiter
from tests.runtime.conftest import YAML, config_of


def new_store() -> LimitStore:
    """Return a limit store without a limiter."""
    return LimitStore(Metrics(), lambda line: None, Ledger(lambda line: None), "")


def test_limiter_is_chosen_by_the_store_address() -> None:
    assert isinstance(new_store().limiter_for(config_of()), MemoryLimiter)
    assert isinstance(new_store().limiter_for(config_of(YAML + "store: redis://127.0.0.1:1/0\n")), RedisLimiter)


def test_limiter_of_the_first_configuration_stays() -> None:
    store = new_store()
    limiter = store.limiter_for(config_of())
    assert store.limiter_for(config_of()) is limiter
    assert not store.in_outage
