"""Charges to windows by incarnation and slot, and their way through the journal."""

from __future__ import annotations

import pytest

from gateway.ledger import records
from gateway.store import window_usage as module
from gateway.store.limit import US_PER_S, Limit
from gateway.store.window_usage import SlotUsage, WindowEntry, WindowUsage, window_limit

HOUR, TARGET = Limit("k", "requests", 400, "h"), Limit("p", "requests", 500, "h", side="target")


def successor(windows: WindowUsage, name: str) -> WindowUsage:
    """Return what the next process inherits through the journal."""
    lines: list[bytes] = []
    records.write_windows(records.Numbering(), windows.all_entries(), lines)
    heir = WindowUsage(name)
    for entry in records.read_journal(b"\n".join(lines)).window_entries():
        heir.merge(entry)
    return heir


def test_windows_are_journaled_by_incarnation_and_slot() -> None:
    windows = WindowUsage("one")
    windows.add([(HOUR, 5, 3), (HOUR, 5, 4), (HOUR, 6, 1), (Limit("k", "requests", 9, "s"), 7, 2), (TARGET, 8, 9)])
    assert set(successor(windows, "two").all_entries()) == {
        WindowEntry("one", HOUR.key, 5, 7),
        WindowEntry("one", HOUR.key, 6, 1),
        WindowEntry("one", TARGET.key, 8, 9),
    }
    assert windows.unjournaled == set()  # without a journal
    changes: list[str] = []
    windows.on_change = lambda: changes.append("changed")
    windows.add([(HOUR, 6, 2), (Limit("k", "requests", 9, "s"), 7, 2)])
    assert windows.unjournaled == {(HOUR.key, 6)}
    assert windows.own_entry(HOUR.key, 6) == WindowEntry("one", HOUR.key, 6, 3)
    assert changes == ["changed"]


def test_charges_that_no_longer_count_are_dropped() -> None:
    windows, now = WindowUsage("one"), 1_900_000_000 * US_PER_S
    minute = Limit("k", "requests", 9, "min")
    current = minute.slot_at(now)
    windows.add([(minute, current - minute.slots - 2, 1), (minute, current - minute.slots - 1, 2), (minute, current, 4)])
    windows.merge(WindowEntry("dead", minute.key, current - minute.slots - 2, 8))
    windows.merge(WindowEntry("recent", minute.key, current - minute.slots - 2, 16))
    windows.merge(WindowEntry("recent", minute.key, current, 32))
    windows.drop_past(now)
    assert [(entry.incarnation, entry.amount) for entry in windows.all_entries()] == [("recent", 32), ("one", 2), ("one", 4)]
    assert [name for name, _ in windows.inherited("caller")] == ["recent"]
    assert list(windows._inherited) == ["recent"]  # ended processes do not add up


def test_windows_are_listed_by_side() -> None:
    windows = WindowUsage("one")
    windows.add([(HOUR, 5, 1), (TARGET, 6, 2)])
    windows.merge(WindowEntry("dead", HOUR.key, 7, 3))
    windows.merge(WindowEntry("dead", TARGET.key, 8, 4))
    windows.merge(WindowEntry("dead too", HOUR.key, 9, 5))
    for side, limit, slots in (("caller", HOUR, {5: 1}), ("target", TARGET, {6: 2})):
        assert [(found.key, amounts) for found, amounts in windows.windows(side)] == [(limit.key, slots)]
    inherited = {
        side: [(name, [(limit.key, slots) for limit, slots in found]) for name, found in windows.inherited(side)]
        for side in ("caller", "target")
    }
    assert inherited == {
        "caller": [("dead", [(HOUR.key, {7: 3})]), ("dead too", [(HOUR.key, {9: 5})])],
        "target": [("dead", [(TARGET.key, {8: 4})])],
    }


def test_a_slot_without_charges_has_the_amount_zero() -> None:
    windows = WindowUsage("one")
    assert windows.own_entry(HOUR.key, 5) == WindowEntry("one", HOUR.key, 5, 0)
    windows.add([(HOUR, 5, 1)])
    assert windows.own_entry(HOUR.key, 6) == WindowEntry("one", HOUR.key, 6, 0)


def test_a_journal_is_told_only_of_changes_that_it_keeps() -> None:
    windows, changes = WindowUsage("one"), list[str]()
    windows.on_change = lambda: changes.append("changed")
    windows.add([(Limit("k", "requests", 9, "s"), 7, 2)])
    windows.add([])
    assert changes == []


def test_beyond_the_maximum_number_only_known_windows_get_charges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WINDOWS", 2)
    windows, day = WindowUsage("one"), Limit("k", "requests", 9, "day")
    windows.add([(HOUR, 5, 1), (TARGET, 6, 2), (day, 7, 4), (HOUR, 5, 8)])
    assert [(entry.key, entry.amount) for entry in windows.all_entries()] == [(HOUR.key, 9), (TARGET.key, 2)]


def test_usage_has_an_id_of_its_own_and_is_unknown_unless_it_is_stated() -> None:
    first, second = SlotUsage(HOUR, {5: 1}), SlotUsage(HOUR, {5: 1})
    assert first.id != second.id
    assert (first.instance, first.is_known) == ("", False)


OTHERS = Limit("key:a:b", "output_tokens", 5, "day", model="m:x*"), Limit("user:k:0a", "uncached_prompt_tokens", 5, "min")


@pytest.mark.parametrize("limit", [HOUR, TARGET, *OTHERS])
def test_a_window_is_known_by_its_key(limit: Limit) -> None:
    found = window_limit(limit.key)
    assert found is not None
    assert (found.key, found.side, found.kind, found.slot, found.slots, found.ttl, found.amount) == (
        limit.key, limit.side, limit.kind, limit.slot, limit.slots, limit.ttl, 0,
    )  # fmt: skip


NOT_WINDOWS = "", "x", Limit("k", "spend", 1, "day").key, Limit("k", "concurrent", 1).key, "lockgate:{caller}:k:tokens:week"


@pytest.mark.parametrize("key", NOT_WINDOWS)
def test_other_keys_are_not_windows(key: str) -> None:
    assert window_limit(key) is None
    windows = WindowUsage("one")
    windows.merge(WindowEntry("dead", key, 1, 2))
    assert list(windows.all_entries()) == []
