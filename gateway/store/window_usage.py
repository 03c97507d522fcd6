"""What processes charged to windows of requests and tokens, by slot, kept in case the shared store loses its data.

An incarnation is one run of a process. A process counts its own charges, and inherits from the journal those of earlier
incarnations. Slots are numbered by the clock of the store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

import msgspec

from gateway.store.limit import RATE_KINDS, WINDOW_S, Limit
from gateway.store.script_args import side_of

MAX_WINDOWS = 100_000
"""Number of windows above which the charges to further ones are not kept."""
UNJOURNALED_WINDOWS = ("s",)
"""Windows that end before a process can restart."""

SlotAmounts = dict[int, int]
"""Amounts by slot."""
Charge = tuple[Limit, int, int]
"""A charge to a window: its limit, the slot by the clock of the store, and the amount."""


class SlotUsage(msgspec.Struct):
    """The usage of one window, by slot number. Redis ignores a repeated replay with the same `id`."""

    limit: Limit
    slots: dict[int, int]
    id: str = msgspec.field(default_factory=lambda: f"used:{os.urandom(8).hex()}")
    instance: str = ""
    """The earlier incarnation that used the amounts; "" if this process did."""
    is_known: bool = False
    """Whether the process has counted the usage as charged before. Its slots then follow the clock of the store, not the local one."""


class WindowEntry(msgspec.Struct, frozen=True):
    """The amount that one incarnation charged to one slot of a window, which is named by the key of its limit."""

    incarnation: str
    key: str
    slot: int
    amount: int


class WindowUsage:
    """The charges of this incarnation, and those inherited from earlier ones."""

    def __init__(self, incarnation: str = "") -> None:
        self.incarnation = incarnation
        self._own: dict[str, tuple[Limit, SlotAmounts]] = {}
        self._inherited: dict[str, dict[str, tuple[Limit, SlotAmounts]]] = {}
        self.unjournaled: set[tuple[str, int]] = set()
        """Keys and slots whose amounts have changed since the last write to the journal."""
        self.on_change: Callable[[], None] | None = None
        """Called after changes, if a journal records them."""

    def add(self, charges: Iterable[tuple[Limit, int, int]]) -> None:
        """Add charges of this incarnation: the limit, the slot and the amount of each."""
        own, changed = self._own, self.unjournaled
        for limit, slot, amount in charges:
            known = own.get(limit.key)
            if known is None:
                if len(own) >= MAX_WINDOWS:
                    continue
                known = own[limit.key] = (limit, {})
            slots = known[1]
            slots[slot] = slots.get(slot, 0) + amount
            if self.on_change is not None and limit.window not in UNJOURNALED_WINDOWS:
                changed.add((limit.key, slot))
        if changed and self.on_change is not None:
            self.on_change()

    def merge(self, entry: WindowEntry) -> None:
        """Inherit a charge of an incarnation that has ended. Ignore a key that is not one of a window."""
        windows = self._inherited.setdefault(entry.incarnation, {})
        known = windows.get(entry.key)
        if known is None:
            limit = window_limit(entry.key)
            if limit is None:
                return
            known = windows[entry.key] = (limit, {})
        known[1][entry.slot] = entry.amount

    def windows(self, side: str) -> Iterator[tuple[Limit, SlotAmounts]]:
        """Yield the windows of one side that this incarnation charged, with the amounts."""
        return ((limit, slots) for limit, slots in self._own.values() if limit.side == side)

    def inherited(self, side: str) -> Iterator[tuple[str, list[tuple[Limit, SlotAmounts]]]]:
        """Yield each earlier incarnation that charged windows of one side, with these windows and the amounts."""
        for incarnation, windows in self._inherited.items():
            found = [(limit, slots) for limit, slots in windows.values() if limit.side == side]
            if found:
                yield incarnation, found

    def own_entry(self, key: str, slot: int) -> WindowEntry:
        """Return the charge of this incarnation to one slot."""
        known = self._own.get(key)
        return WindowEntry(self.incarnation, key, slot, known[1].get(slot, 0) if known is not None else 0)

    def all_entries(self) -> Iterator[WindowEntry]:
        """Yield all charges that the journal keeps."""
        for incarnation, windows in (*self._inherited.items(), (self.incarnation, self._own)):
            for key, (limit, slots) in windows.items():
                if limit.window not in UNJOURNALED_WINDOWS:
                    yield from (WindowEntry(incarnation, key, slot, amount) for slot, amount in slots.items())

    def drop_past(self, now: int) -> None:
        """Drop charges that no longer count at `now`, the time of the store in microseconds."""
        for windows in (self._own, *self._inherited.values()):
            for key, (limit, slots) in list(windows.items()):
                oldest = limit.slot_at(now) - limit.slots - 1  # one more, because clocks differ
                for slot in [slot for slot in slots if slot < oldest]:
                    del slots[slot]
                if not slots:
                    del windows[key]
        self._inherited = {incarnation: windows for incarnation, windows in self._inherited.items() if windows}


def window_limit(key: str) -> Limit | None:
    """Return a limit with this key and no amount, or None if the key is not one of a window of requests or tokens."""
    rest, _, window = key.rpartition(":")
    rest, _, kind = rest.rpartition(":")
    side = side_of(rest)
    owner = rest.removeprefix(f"lockgate:{{{side}}}:")
    known = next((each for each in RATE_KINDS if each == kind), None)
    if known is None or window not in WINDOW_S or not side or owner == rest:
        return None
    return Limit(owner, known, 0, window, side=side)
