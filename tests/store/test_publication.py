"""Publications of one process to the store: its spend and its heartbeats."""

from __future__ import annotations

from typing import Any

from gateway.store.budget_sync import BudgetSync
from gateway.store.member_scripts import LEAVE
from gateway.store.members import Members
from gateway.store.memory import steady_now
from gateway.store.periods import period_at
from gateway.store.settled_spend import SettledSpend

KEY = "lockgate:{caller}:key:team:spend:day"


def test_spend_is_published_again_after_a_failed_publication() -> None:
    runs: list[Any] = []
    spend = SettledSpend("i1")
    sync = BudgetSync(lambda *run: runs.append(run), spend)
    spend.add(KEY, period_at(KEY, steady_now()), 7)
    sync.publish_settled()
    sync.publish_settled()
    assert len(runs) == 1
    runs[0][3](ConnectionError())
    sync.publish_settled()
    assert len(runs) == 2
    assert runs[1][2][2] == 7


def test_members_are_counted_from_the_reply_and_a_member_leaves_every_side() -> None:
    runs: list[Any] = []
    forgotten: list[bool] = []
    left: list[bool] = []
    members = Members(lambda *run: runs.append(run), "i1", 1000, lambda: forgotten.append(True))
    members.join_side("target")
    members.send_heartbeat({})
    assert len(runs) == 2
    runs[0][3]([3, 50, 1, 1])
    assert (members.count, members.missing, members.divisor, forgotten) == (3, 1, 3, [True])
    runs.clear()
    members.leave(lambda: left.append(True))
    assert [run[0] for run in runs] == [LEAVE, LEAVE]
    runs[0][3](1)
    assert left == []
    runs[1][3](1)
    assert left == [True]
