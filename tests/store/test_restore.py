"""If a store contains only the first runs of a process, the charges that it lacks are sent again, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.store.limit import Costs, Limit, Reservation
from gateway.store.memory import steady_now
from gateway.store.resp import RespConnection
from gateway.store.restore import admitted_again, note_readmission, send_lost
from gateway.store.runs import Runs
from gateway.store.script_args import run_key
from gateway.store.usage_replay import UsageReplay
from gateway.store.window_usage import WindowUsage

TOKENS, CALLS, BUDGET = Limit("k", "tokens", 1000, "h"), Limit("k", "concurrent", 9), Limit("k", "spend", 1000, "day")
LIMITS = TOKENS, CALLS, BUDGET
TARGET = Limit("p", "tokens", 1000, "h", side="target")
NOW = TOKENS.slot_at(steady_now())


class Store(RespConnection):
    """A connection to a store that contains the runs up to a number."""

    def __init__(self, latest: int | None) -> None:
        super().__init__(lambda: None)
        self.latest = latest

    async def execute(self, *command: Any) -> Any:
        """Answer the commands of a new connection."""
        if command[0] == "TIME":
            return divmod(steady_now(), 1_000_000)
        return [self.latest, steady_now() if self.latest is not None else None] if command[0] == "HMGET" else None


def call(id: str, run: int) -> Reservation:
    """Return a call that a run admitted."""
    return Reservation(id, LIMITS, Costs(prompt_tokens=9, spend=5), [NOW, -1, 20_000], (), 0, run=run)


def call_at_target(id: str, run: int) -> Reservation:
    """Return a call with one limit, of a target, that a run admitted."""
    return Reservation(id, (TARGET,), Costs(prompt_tokens=9), [NOW], (), 0, run=run)


def begin(runs: Runs, count: int) -> None:
    """Make this number of runs."""
    for _ in range(count):
        runs.begin("caller")


class Process:
    """A process whose runs are answered by the test."""

    def __init__(self) -> None:
        self.runs, self.sent = Runs("me", WindowUsage("me")), list[tuple[list[str], list[Any]]]()
        self.replies: list[Callable[[Any], Any]] = []
        self.replay = UsageReplay(self._run, self.runs)

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], on_reply: Callable[[Any], Any]) -> None:
        self.sent.append((list(keys), list(arguments)))
        self.replies.append(on_reply)

    def replayed(self) -> list[int]:
        """Return the amounts that were sent again to the window of tokens."""
        return [number for keys, arguments in self.sent if TOKENS.key in keys for number in arguments[7::2]]


async def test_of_each_call_the_part_that_the_store_lacks_is_sent_again() -> None:
    process = Process()
    runs = process.runs
    whole, change, kept = call("whole", 4), call("change", 2), call("kept", 1)
    begin(runs, 6)
    runs.on_reply("caller", 3, [(kept, Costs(prompt_tokens=1))])
    runs.on_reply("caller", 5, [(change, Costs(prompt_tokens=2)), (whole, Costs(prompt_tokens=4))])
    runs.on_reply("caller", 6)
    open_lost, open_kept = call("open and lost", 6), call("open and kept", 3)
    pending = {each.id: (each, Costs(prompt_tokens=64)) for each in (call("pending and lost", 5), call("pending", 2))}
    await runs.prepare(["caller", "target", "ledger"], Store(3))
    assert runs.has_lost
    send_lost(runs, process.replay, [open_lost, open_kept], pending)
    assert process.replayed() == [4 + 64]
    assert set(pending) == {"pending", "change"}
    assert (open_lost.run, open_kept.run) == (0, 3)
    assert not runs.has_lost
    send_lost(runs, process.replay, [open_lost, open_kept], pending)
    assert process.replayed() == [4 + 64]  # once


async def test_a_store_with_all_runs_gets_nothing() -> None:
    process = Process()
    begin(process.runs, 2)
    process.runs.on_reply("caller", 2, [(call("a", 1), Costs(prompt_tokens=3))])
    await process.runs.prepare(["caller"], Store(2))
    pending = {"b": (call("b", 1), Costs())}
    send_lost(process.runs, process.replay, [], pending)
    assert process.replayed() == []
    assert set(pending) == {"b"}


async def test_an_empty_store_gets_older_charges_too() -> None:
    process = Process()
    begin(process.runs, 3)
    process.runs.on_reply("caller", 2, [(call("a", 1), Costs(prompt_tokens=3))])
    process.runs.fold(everything=True)
    process.runs.on_reply("caller", 3, [(call("b", 1), Costs(prompt_tokens=5))], [(TOKENS, NOW, 30)])
    assert process.runs.own_usage([call("c", 3)], [], []) == {TOKENS.key: 3 + 5 + 30 + 9}
    await process.runs.prepare(["caller"], Store(None))
    send_lost(process.runs, process.replay, [], {})
    assert process.replayed() == [3 + 5 + 30]


async def test_a_loss_of_one_side_changes_nothing_on_the_other_side() -> None:
    process = Process()
    runs = process.runs
    begin(runs, 5)
    runs.begin("target")
    runs.on_reply("caller", 5)
    runs.on_reply("target", 1)
    await runs.prepare(["caller"], Store(2))
    open_calls = [call("open", 3), call_at_target("open at a target", 3)]
    pending = {each.id: (each, Costs()) for each in (call("lost", 3), call("kept", 2), call_at_target("at a target", 3))}
    send_lost(runs, process.replay, open_calls, pending)
    assert [each.run for each in open_calls] == [0, 3]
    assert set(pending) == {"kept", "at a target"}


async def test_a_loss_of_the_targets_side_is_found_by_the_first_limit_of_a_call() -> None:
    process = Process()
    runs = process.runs
    for _ in range(3):
        runs.begin("target")
    runs.on_reply("target", 3)
    await runs.prepare(["target"], Store(2))
    open_call, settled = call_at_target("open", 3), call_at_target("settled", 3)
    pending = {settled.id: (settled, Costs(prompt_tokens=7))}
    send_lost(runs, process.replay, [open_call], pending)
    assert (open_call.run, pending) == (0, {})
    assert [keys[2] for keys, _ in process.sent if len(keys) > 1] == [TARGET.key]


async def test_charges_whose_replay_failed_are_sent_once_after_another_loss() -> None:
    process = Process()
    begin(process.runs, 2)
    process.runs.on_reply("caller", 2, [(call("a", 2), Costs(prompt_tokens=3))])
    await process.runs.prepare(["caller"], Store(1))
    send_lost(process.runs, process.replay, [], {})
    process.replies[0](ConnectionError("closed"))
    begin(process.runs, 1)
    process.runs.on_reply("caller", 4)
    await process.runs.prepare(["caller"], Store(1))
    send_lost(process.runs, process.replay, [], {})
    assert process.replayed() == [3, 3]  # at each attempt


async def test_a_process_records_a_first_run_on_each_side_where_it_has_made_none() -> None:
    process = Process()
    send_lost(process.runs, process.replay, [], {})
    assert [keys for keys, _ in process.sent] == [[run_key("caller", "me")], [run_key("target", "me")]]
    process.replies[0](b"OK")
    send_lost(process.runs, process.replay, [], {})
    assert [keys for keys, _ in process.sent[2:]] == [[run_key("target", "me")]]


def test_a_call_that_is_admitted_again_keeps_its_period_and_is_moved_once() -> None:
    held = call("open", 0)
    (decision,) = admitted_again([held])
    assert (decision.held, decision.future, decision.id) == (held, None, "open")
    note_readmission(held, [NOW + 2, -1, 20_001], 8)
    assert (held.run, list(held.slots)) == (8, [NOW + 2, -1, 20_000])
    note_readmission(held, [NOW + 3, -1, 20_001], 9)
    assert (held.run, list(held.slots)) == (8, [NOW + 2, -1, 20_000])
