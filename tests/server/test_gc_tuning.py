"""Garbage collector settings."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gateway.server.gc_tuning import THRESHOLDS, freeze_startup_objects, pause_collection


@pytest.fixture(autouse=True)
def restored_collector() -> Iterator[None]:
    """Restore the test process's own settings."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(*thresholds)


def test_existing_objects_are_frozen_and_collections_still_run() -> None:
    freeze_startup_objects()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold() == THRESHOLDS
    assert gc.isenabled()


def test_freezing_again_collects_the_garbage_of_a_reload() -> None:
    freeze_startup_objects()
    old: list[object] = []
    old.append(old)
    token = id(old)
    freeze_startup_objects()
    del old
    freeze_startup_objects()
    assert all(id(thing) != token for thing in gc.get_objects() if isinstance(thing, list))


def test_a_pause_ends_when_the_start_is_complete() -> None:
    pause_collection()
    assert not gc.isenabled()
    freeze_startup_objects()
    assert gc.isenabled()
