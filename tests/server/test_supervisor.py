"""The supervisor refuses several workers with a store in memory, and never restarts a worker without a delay."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import Overrides
from gateway.config.source import ConfigSource
from gateway.server.supervisor import MAX_RESTART_DELAY_S, MIN_RESTART_DELAY_S, STABLE_AFTER_S, run_supervisor

YAML = "providers:\n  up: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}\nmodels:\n  m: up/mock\n"


def test_several_workers_with_a_memory_store_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(YAML)
    source = ConfigSource(str(path), Overrides(), {})
    assert run_supervisor(source, source.read(), 2, "json") == 2
    assert capfd.readouterr().err == f"{path}: store: memory:// supports one worker: use a Redis store or --workers 1\n"


def test_a_worker_that_fails_at_once_is_never_restarted_without_a_delay() -> None:
    assert 0 < MIN_RESTART_DELAY_S < MAX_RESTART_DELAY_S < STABLE_AFTER_S
