"""Sends again what a process charged to windows and Redis has lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.store.limit import Reservation
from gateway.store.runs import LIMIT_TAGS, Runs
from gateway.store.script_args import PendingDecision, Settlement
from gateway.store.usage_replay import UsageReplay


def send_lost(runs: Runs, replay: UsageReplay, open_calls: Iterable[Reservation], pending: dict[str, Settlement]) -> None:
    """Replay the lost usage of windows.

    `pending` are settlements to send: those of calls whose admission is lost are replaced by their usage, and lost
    settlements are added. Calls in flight whose admission is lost are marked as not admitted, because they are admitted again.
    """
    for side in LIMIT_TAGS:
        stored, settled = runs.lost_after(side), list[Settlement]()
        if stored is not None:
            replay.drop_known(side)
            for reservation in open_calls:
                if reservation.run > stored and reservation.limits[0].side == side:
                    reservation.run = 0
            gone = [id for id, (each, _) in pending.items() if each.run > stored and each.limits[0].side == side]
            settled = [pending.pop(id) for id in gone]
        lost = runs.take_lost(side, settled)
        for settlement in lost.settlements:
            pending.setdefault(settlement[0].id, settlement)
        replay.replay(lost.usages)
        if runs.is_new(side):
            replay.announce(side)


def admitted_again(open_calls: Iterable[Reservation]) -> list[PendingDecision]:
    """Return decisions that charge calls in flight even if limits are exceeded."""
    return [PendingDecision(each.limits, each.costs, each.id, held=each) for each in open_calls]


def note_readmission(held: Reservation, slots: Sequence[int], run: int) -> None:
    """Record the slots of windows to which a later run has charged a call in flight. The periods of its budgets stay the same."""
    if not held.run:
        held.run = run
        held.slots = [old if limit.kind == "spend" else new for limit, old, new in zip(held.limits, held.slots, slots, strict=True)]
