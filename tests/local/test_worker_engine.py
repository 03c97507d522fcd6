"""providers.local.worker_engine: an engine that another process supervises."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from providers.base import Failure
from providers.local.admission import Lease
from providers.local.options import LocalOptions
from providers.local.state import Note, write_note
from providers.local.supervisor import Engine
from providers.local.worker_engine import WorkerEngine

pytestmark = pytest.mark.timeout(120)


def distant(tmp_path: Path, state: str | None) -> WorkerEngine:
    """Return a worker's view of an engine in this state."""
    socket = str(tmp_path / "engine.sock")
    if state is not None:
        write_note(socket, Note(state, "because"))  # type: ignore[arg-type]
    return WorkerEngine(LocalOptions(slots=1, queue=0), socket)


@pytest.mark.parametrize(
    ("state", "code"),
    [("starting", "engine_loading"), ("restarting", "engine_crashed"), ("unavailable", "model_unavailable"), (None, "model_unavailable")],
)
async def test_calls_are_refused_according_to_the_engine_state(tmp_path: Path, state: str | None, code: str) -> None:
    refused = await distant(tmp_path, state).admit()
    assert isinstance(refused, Failure)
    assert refused.code == code


async def test_calls_wait_for_an_engine_that_is_starting(tmp_path: Path) -> None:
    engine = distant(tmp_path, "starting")
    waiting = asyncio.create_task(engine.admit(wait=30))
    await asyncio.sleep(0)
    write_note(engine.socket, Note("ready", "loaded"))
    assert isinstance(await waiting, Lease)


async def test_queue_is_bounded_and_places_are_freed(tmp_path: Path) -> None:
    engine = distant(tmp_path, "ready")
    lease = await engine.admit()
    assert isinstance(lease, Lease)
    full = await engine.admit()
    assert isinstance(full, Failure)
    assert full.code == "engine_overloaded"
    lease.release()
    again = await engine.admit()
    assert isinstance(again, Lease)


async def test_state_is_read_again_after_a_broken_connection(tmp_path: Path) -> None:
    engine = distant(tmp_path, "ready")
    lease = await engine.admit()
    assert isinstance(lease, Lease)
    lease.release()
    write_note(engine.socket, Note("unavailable", "gone"))
    assert engine.failure().code == "model_unavailable"
    assert isinstance(await engine.admit(), Failure)


async def test_supervisor_writes_every_state_change_for_its_workers(bundled_model: Path) -> None:
    engine = Engine(LocalOptions(slots=1, context=256))
    worker = WorkerEngine(engine.options, engine.socket)
    assert worker.state == "stopped"
    await engine.start()
    try:
        assert worker.state == "starting"
        assert isinstance(await worker.admit(wait=60), Lease)
        assert worker.state == "ready"
    finally:
        await engine.stop()
    assert worker.state == "stopped"
