"""Garbage collector settings."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gateway.server import gc_tuning
from gateway.server.gc_tuning import MAX_UNFROZEN, THRESHOLDS, freeze_before_fork, freeze_startup_objects, pause_collection


@pytest.fixture(autouse=True)
def restored_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the test process's own settings."""
    thresholds = gc.get_threshold()
    monkeypatch.setattr(gc_tuning, "_shares_frozen", False)
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


def test_objects_that_a_forked_process_shares_stay_frozen_and_its_own_few_are_left_to_the_collector() -> None:
    freeze_before_fork()
    shared = gc.get_freeze_count()
    own = [[number] for number in range(10)]
    freeze_startup_objects()
    assert gc.get_freeze_count() == shared
    assert own[0] in gc.get_objects()
    assert (gc.isenabled(), gc.get_threshold()) == (True, THRESHOLDS)


def test_a_forked_process_with_many_objects_of_its_own_freezes_them_and_collects_them_at_the_next_reload() -> None:
    freeze_before_fork()
    shared = gc.get_freeze_count()
    own: list[object] = [[number] for number in range(MAX_UNFROZEN + 1)]
    own.append(own)
    freeze_startup_objects()
    assert gc.get_freeze_count() > shared + MAX_UNFROZEN
    del own
    freeze_startup_objects()
    assert gc.get_freeze_count() < shared + MAX_UNFROZEN
