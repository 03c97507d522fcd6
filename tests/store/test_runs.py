"""The numbered runs of a process: which charges a store that has lost data lacks."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis
import pytest

from gateway.store.limit import US_PER_S, Costs, Limit, Reservation
from gateway.store.resp import RespConnection
from gateway.store.runs import GATHER_S, Runs, lost_key
from gateway.store.script_args import Run, Settlement, run_key
from gateway.store.window_usage import WindowEntry, WindowUsage

NOW = 1_900_000_000 * US_PER_S + 123_456
HOUR, TOKENS, TARGET = Limit("k", "requests", 9, "h"), Limit("k", "tokens", 9, "h"), Limit("p", "requests", 9, "h", side="target")
SLOT = HOUR.slot_at(NOW)
LATE = 3 * HOUR.slot
"""Microseconds by which the clock of a process differs from that of the store, long enough for another slot."""
CALLER_KEY = run_key("caller", "me")
LOST_KEY = lost_key("caller")
WRONG = hiredis.ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")


class Store(RespConnection):
    """A connection to a store with the given replies: the run of each key, and the time at which a loss was first noticed."""

    def __init__(self, runs: dict[str, Any] | None = None, noticed: Any = None, now: int = NOW) -> None:
        super().__init__(lambda: None)
        self.runs, self.noticed, self.now = runs or {}, noticed, now
        self.commands: list[tuple[Any, ...]] = []

    async def execute(self, *command: Any) -> Any:
        """Answer the commands of `Runs.prepare`."""
        self.commands.append(command)
        if command[0] == "TIME":
            return [str(number).encode() for number in divmod(self.now, US_PER_S)]
        if command[0] == "DEL":
            return 1
        reply = self.noticed if command[0] == "GET" else self.runs.get(command[1], [None, None]) if command[0] == "HMGET" else b"OK"
        if isinstance(reply, Exception):
            raise reply
        return reply


class Process:
    """The runs of a process whose clocks are set by the test. Its clock is `late` microseconds behind that of the store."""

    def __init__(self, late: int = 0) -> None:
        self.windows = WindowUsage("me")
        self.late, self.now, self.now_s = late, NOW, 100.0
        self.runs = Runs("me", self.windows, lambda: self.now - self.late, lambda: self.now_s)

    def made(self, count: int, side: str = "caller") -> None:
        """Begin this number of runs."""
        for _ in range(count):
            self.runs.begin(side)

    def folded(self) -> dict[str, dict[int, int]]:
        """Return the charges that are kept by slot."""
        return {limit.key: dict(slots) for side in ("caller", "target") for limit, slots in self.windows.windows(side)}


def call(id: str, run: int = 1, limit: Limit = HOUR, slot: int = SLOT) -> Reservation:
    """Return a call that a run admitted."""
    return Reservation(id, [limit], Costs(), [slot], (), 0, run=run)


def settled(id: str, requests: int = 1, run: int = 1, limit: Limit = HOUR, slot: int = SLOT) -> Settlement:
    """Return a call that a run admitted, and its costs."""
    return call(id, run, limit, slot), Costs(requests=requests, prompt_tokens=requests)


def stored(number: int, at: int = NOW) -> list[bytes]:
    """Return the reply to a request for the latest run."""
    return [str(number).encode(), str(at).encode()]


def lost_amounts(runs: Runs, side: str = "caller", pending: list[Settlement] | None = None) -> list[tuple[str, dict[int, int]]]:
    """Return what must be charged again: the key of each window and its amounts by slot."""
    return [(usage.limit.key, usage.slots) for usage in runs.take_lost(side, pending or []).usages]


def test_runs_are_numbered_per_side_and_require_the_latest_with_a_reply() -> None:
    runs = Process().runs
    assert runs.is_new("caller")
    assert not runs.was_made("caller", 1)
    assert runs.clock_offset_us == 0
    assert [runs.begin("caller"), runs.begin("caller")] == [Run(CALLER_KEY, 1), Run(CALLER_KEY, 2, 1)]
    runs.on_reply("caller", 2)
    runs.on_reply("caller", 1)  # a late reply
    assert runs.begin("caller") == Run(CALLER_KEY, 3, 2)
    assert runs.latest("caller") == Run(CALLER_KEY, 0, 2)
    assert (runs.is_new("caller"), runs.is_new("target")) == (False, True)
    assert runs.begin("target") == Run(run_key("target", "me"), 1)


async def test_without_a_reply_a_run_requires_the_one_before_it_on_the_same_connection() -> None:
    process = Process()
    runs = process.runs
    process.made(3)  # without replies
    assert runs.latest("caller") == Run(CALLER_KEY)
    await runs.prepare(["caller"], Store())
    assert [runs.begin("caller") for _ in range(3)] == [Run(CALLER_KEY, 4), Run(CALLER_KEY, 5, 4), Run(CALLER_KEY, 6, 5)]
    assert runs.begin("target") == Run(run_key("target", "me"), 1)
    runs.on_reply("caller", 4)
    assert runs.begin("caller") == Run(CALLER_KEY, 7, 4)
    await runs.prepare(["caller"], Store())  # everything is lost: nothing before this connection is required
    assert [runs.begin("caller"), runs.begin("caller")] == [Run(CALLER_KEY, 8), Run(CALLER_KEY, 9, 8)]
    runs.on_reply("caller", 9)
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(9)}))
    assert runs.begin("caller") == Run(CALLER_KEY, 10, 9)
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(8)}))  # what an older copy still has is required
    assert [runs.begin("caller"), runs.begin("caller")] == [Run(CALLER_KEY, 11, 8), Run(CALLER_KEY, 12, 8)]


async def test_a_new_connection_reads_the_clock_and_the_latest_run_of_the_store() -> None:
    process = Process(late=5_000_000)
    runs = process.runs
    process.made(3)
    runs.on_reply("caller", 2)
    store = Store({CALLER_KEY: stored(2), run_key("target", "me"): stored(1)})
    await runs.prepare(["caller", "ledger", "target"], store)  # a tag without runs, between those with runs
    assert runs.clock_offset_us == 5_000_000
    assert not runs.has_lost
    assert (runs.lost_after("caller"), runs.gather_until) == (None, 0.0)
    assert [runs.was_made("caller", number) for number in (0, 1, 2, 3)] == [False, True, True, False]
    assert [runs.was_made("target", number) for number in (1, 2)] == [True, False]
    assert [command[0] for command in store.commands] == ["TIME", "HMGET", "HMGET"]
    assert lost_amounts(runs) == []


async def test_a_loss_is_known_until_it_is_taken() -> None:
    process = Process()
    runs = process.runs
    process.made(5)
    runs.on_reply("caller", 4)
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(3)}))
    assert (runs.has_lost, runs.lost_after("caller"), runs.lost_after("target")) == (True, 3, None)
    assert runs.latest("caller").acked == 3
    runs.take_lost("target", [])
    assert runs.has_lost
    runs.take_lost("caller", [])
    assert (runs.has_lost, runs.lost_after("caller")) == (False, None)


async def test_of_two_losses_in_a_row_the_one_that_left_less_counts() -> None:
    process = Process()
    runs = process.runs
    process.made(6)
    for number in (2, 4, 6):
        runs.on_reply("caller", number, [settled(str(number), number, run=9)])
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(3)}))
    runs.on_reply("caller", 6)
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(5)}))
    assert runs.lost_after("caller") == 3
    runs.on_reply("caller", 6)
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(1)}))
    assert runs.lost_after("caller") == 1
    assert lost_amounts(runs) == [(HOUR.key, {SLOT: 2 + 4 + 6})]


@pytest.mark.parametrize("reply", [[None, None], [b"x", b"1"], [b"2", b"x"], WRONG])
async def test_a_run_that_cannot_be_read_counts_as_lost(reply: Any) -> None:
    process = Process()
    process.made(1)
    process.runs.on_reply("caller", 1)
    await process.runs.prepare(["caller"], Store({CALLER_KEY: reply}))
    assert process.runs.lost_after("caller") == 0


async def test_a_store_that_cannot_answer_is_not_one_that_lost_data() -> None:
    process = Process()
    process.made(1)
    process.runs.on_reply("caller", 1)
    loading = hiredis.ReplyError("LOADING Redis is loading the dataset in memory")
    with pytest.raises(hiredis.ReplyError, match="LOADING"):
        await process.runs.prepare(["caller"], Store({CALLER_KEY: loading}))
    assert not process.runs.has_lost


async def test_a_loss_on_a_connection_that_ends_is_noticed_by_the_next_one_with_its_time_of_gathering() -> None:
    process = Process()
    process.made(1)
    process.runs.on_reply("caller", 1)
    with pytest.raises(hiredis.ReplyError, match="LOADING"):
        await process.runs.prepare(["caller"], Store(noticed=hiredis.ReplyError("LOADING Redis is loading the dataset in memory")))
    before = asyncio.get_running_loop().time()
    await process.runs.prepare(["caller"], Store())
    assert process.runs.lost_after("caller") == 0
    assert process.runs.gather_until >= before + GATHER_S - 1e-6


@pytest.mark.parametrize(
    ("noticed", "left_s"),
    [
        (str(NOW - 250_000).encode(), GATHER_S - 0.25),
        (str(NOW + 250_000).encode(), GATHER_S),  # the store's clock was set back
        (None, GATHER_S),
        (b"x", GATHER_S),
        (WRONG, GATHER_S),
    ],
)
async def test_processes_gather_until_a_second_after_the_first_of_them_noticed_the_loss(noticed: Any, left_s: float) -> None:
    process, store = Process(), Store(noticed=noticed)
    process.made(1)
    process.runs.on_reply("caller", 1)
    before = asyncio.get_running_loop().time()
    await process.runs.prepare(["caller"], store)
    after = asyncio.get_running_loop().time()
    assert before - 1e-6 <= process.runs.gather_until - left_s <= after + 1e-6
    assert store.commands[2] == ("SET", LOST_KEY, NOW, "NX", "PX", 1000)
    assert (("DEL", LOST_KEY) in store.commands) == (noticed is WRONG)


async def test_a_second_loss_never_shortens_the_time_of_gathering() -> None:
    process = Process()
    process.made(1)
    process.runs.on_reply("caller", 1)
    process.runs.gather_until = until = asyncio.get_running_loop().time() + 1000
    await process.runs.prepare(["caller"], Store())
    assert process.runs.gather_until == until


async def test_only_the_missing_runs_are_charged_again_and_then_belong_to_the_next_run() -> None:
    process = Process()
    runs = process.runs
    process.made(5)
    for number in (3, 4, 5):
        runs.on_reply("caller", number, [settled(f"s{number}", number, run=9)], [(TOKENS, SLOT, number * 10)])
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(4)}))
    assert lost_amounts(runs, "caller", [settled("pending", 64, run=9)]) == [(HOUR.key, {SLOT: 5 + 64}), (TOKENS.key, {SLOT: 50})]
    runs.begin("caller")  # the replay
    runs.on_reply("caller", 6)
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(5)}))  # a copy from before the replay
    assert lost_amounts(runs) == [(HOUR.key, {SLOT: 5 + 64}), (TOKENS.key, {SLOT: 50})]
    process.made(2)
    runs.on_reply("caller", 8)
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(7)}))  # a copy from after the replay
    assert lost_amounts(runs) == []
    runs.begin("caller")
    runs.on_reply("caller", 9)
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(0)}))
    assert lost_amounts(runs) == [(HOUR.key, {SLOT: 3 + 4 + 5 + 64}), (TOKENS.key, {SLOT: 120})]


async def test_a_call_whose_admission_the_store_has_is_settled_again_and_not_charged() -> None:
    process = Process()
    runs = process.runs
    process.made(5)
    first, admitted = settled("first", 1, run=1), settled("a", 2, run=4)
    unadmitted, missing = settled("b", 4, run=0), settled("c", 8, run=5)
    runs.on_reply("caller", 5, [first, admitted, unadmitted, missing])
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(4)}))
    lost = runs.take_lost("caller", [])
    assert lost.settlements == [first, admitted]
    assert [usage.slots for usage in lost.usages] == [{SLOT: 4 + 8}]
    assert [(usage.is_known, usage.instance) for usage in lost.usages] == [(True, "")]


async def test_a_lost_call_without_a_slot_is_charged_to_the_slot_of_the_stores_clock() -> None:
    process = Process(late=LATE)
    await process.runs.prepare(["caller"], Store())
    process.made(1)
    process.runs.on_reply("caller", 1)
    await process.runs.prepare(["caller"], Store())
    assert lost_amounts(process.runs, "caller", [settled("a", slot=-1)]) == [(HOUR.key, {SLOT: 1})]


async def test_of_older_charges_those_since_the_slot_of_the_copy_are_charged_again() -> None:
    process = Process()
    runs = process.runs
    process.made(4)
    runs.on_reply("caller", 1, charges=[(HOUR, SLOT - 2, 1), (HOUR, SLOT - 1, 2)])
    runs.on_reply("caller", 2, charges=[(HOUR, SLOT, 4)])
    runs.on_reply("target", 1, charges=[(TARGET, SLOT, 64)])
    runs.fold(everything=True)
    runs.on_reply("caller", 3, charges=[(HOUR, SLOT, 8)])
    runs.on_reply("caller", 4, charges=[(HOUR, SLOT, 16)])
    before = {CALLER_KEY: stored(1, NOW - HOUR.slot)}
    await runs.prepare(["caller"], Store(before))
    assert lost_amounts(runs) == [(HOUR.key, {SLOT - 1: 2, SLOT: 4 + 8 + 16})]
    runs.begin("caller")
    runs.on_reply("caller", 5)
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(4)}))  # older charges belong to run 5 as well
    assert lost_amounts(runs) == [(HOUR.key, {SLOT: 4 + 8 + 16})]
    process.made(2)
    runs.on_reply("caller", 7)
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(6)}))  # a copy from after the replay
    assert lost_amounts(runs) == []


async def test_older_charges_that_the_store_has_are_not_charged_again() -> None:
    process = Process()
    runs = process.runs
    process.made(3)
    runs.on_reply("caller", 2, charges=[(HOUR, SLOT, 4)])
    runs.fold(everything=True)
    runs.on_reply("caller", 3, charges=[(HOUR, SLOT, 8)])
    await runs.prepare(["caller"], Store({CALLER_KEY: stored(2)}))
    assert lost_amounts(runs) == [(HOUR.key, {SLOT: 8})]


async def test_charges_of_earlier_incarnations_are_replayed_once_if_the_store_lacks_their_runs() -> None:
    process = Process()
    runs = process.runs
    for name, amount in (("one", 3), ("two", 4)):
        process.windows.merge(WindowEntry(name, HOUR.key, SLOT, amount))
    await runs.prepare(["caller", "target"], Store({run_key("caller", "two"): stored(7)}))
    (usage,) = runs.take_lost("caller", []).usages
    assert (usage.limit.key, usage.slots, usage.instance, usage.is_known) == (HOUR.key, {SLOT: 3}, "one", True)
    assert usage.id == f"used:one:{HOUR.key}"
    process.windows.merge(WindowEntry("one", HOUR.key, SLOT, 5))
    assert usage.slots == {SLOT: 3}  # what is sent again stays as it is
    assert lost_amounts(runs) == []
