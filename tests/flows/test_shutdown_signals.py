"""Signals during shutdown: the process exits with code 0, however many signals arrive and whenever they arrive."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.running import RunningGateway

YAML = "providers:\n  up: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}\nmodels:\n  m: up/mock\n"


@pytest.mark.timeout(600)  # ends a hang; the test does not depend on the speed of the machine
@pytest.mark.parametrize("late", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_repeated_signals_during_shutdown_leave_exit_code_0(gateway: Callable[..., RunningGateway], late: signal.Signals) -> None:
    running = gateway(YAML)
    running.wait_ready()
    running.process.send_signal(signal.SIGTERM)
    while running.process.poll() is None:
        running.process.send_signal(late)
        time.sleep(0.001)
    assert running.process.returncode == 0, running.output
