"""Signals that arrive while a process is shutting down: it still exits cleanly, whatever their number and moment."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.running import RunningGateway

YAML = "providers:\n  up: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}\nmodels:\n  m: up/mock\n"


@pytest.mark.timeout(600)  # only against a hang: nothing here depends on how fast the machine is
@pytest.mark.parametrize("late", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_rain_of_signals_at_the_end_leaves_the_exit_code_clean(
    gateway: Callable[..., RunningGateway], late: signal.Signals
) -> None:
    running = gateway(YAML)
    running.wait_ready()
    running.process.send_signal(signal.SIGTERM)
    while running.process.poll() is None:
        running.process.send_signal(late)
        time.sleep(0.001)
    assert running.process.returncode == 0, running.output
