"""The shutdown of a process: the effects of signals, none of which is ever left to its default action."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from gateway.admin.health import Readiness
from gateway.metrics import Metrics
from gateway.server.drain import FLUSH_TIMEOUT_S, Shutdown
from gateway.server.signals import handle_signals

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture
def restored_signals() -> Iterator[None]:
    """Restore the test process's own signal handlers."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


async def test_the_first_signal_starts_the_shutdown_and_the_second_forces_it() -> None:
    readiness = Readiness()
    shutdown = Shutdown(readiness, Metrics())
    shutdown.on_signal()
    assert (shutdown.started.is_set(), shutdown.forced.is_set(), readiness.draining) == (True, False, True)
    assert shutdown.flush_timeout_s == 2 * FLUSH_TIMEOUT_S
    shutdown.on_signal()
    assert shutdown.forced.is_set()
    assert shutdown.flush_timeout_s == FLUSH_TIMEOUT_S / 4


async def test_a_forced_shutdown_does_not_wait() -> None:
    shutdown = Shutdown(Readiness(), Metrics())
    shutdown.on_signal()
    shutdown.on_signal()
    await asyncio.wait_for(shutdown.wait(10_000), 30)


@pytest.mark.usefixtures("restored_signals")
async def test_each_signal_calls_its_function_until_signals_are_ignored() -> None:
    calls: asyncio.Queue[str] = asyncio.Queue()
    ignore = handle_signals(lambda: calls.put_nowait("stop"), lambda: calls.put_nowait("reload"))
    for number, expected in ((signal.SIGHUP, "reload"), (signal.SIGTERM, "stop"), (signal.SIGINT, "stop")):
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(calls.get(), 30) == expected
    ignore()
    for number in SIGNALS:
        os.kill(os.getpid(), number)
    await asyncio.sleep(0)
    assert calls.empty()


@pytest.mark.usefixtures("restored_signals")
async def test_no_signal_has_its_default_action_while_handlers_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    ignore = handle_signals(lambda: None, lambda: None)
    actions: list[object] = []
    install = signal.signal

    def record(number: int, action: signal.Handlers) -> object:
        actions.append(action)
        return install(number, action)

    monkeypatch.setattr(signal, "signal", record)
    ignore()
    assert actions == [signal.SIG_IGN] * len(SIGNALS)
