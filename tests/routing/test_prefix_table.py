"""`balance: prefix`: a call prefers the target that got the beginning of its prompt before, and no target gets much more than its share."""

from __future__ import annotations

import heapq
import json
import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Call
from gateway.config.model import ModelConfig
from gateway.config.route import Balance, Ref, Split
from gateway.routing import balance
from gateway.routing.prefix_table import BLOCK_BYTES, MAX_BLOCKS, PrefixTable, blocks_of
from gateway.routing.route_query import RouteQuery
from gateway.routing.router import Router
from gateway.targets.backend import Backend
from gateway.targets.candidate import Model
from gateway.tokens.prompt import PromptCounts
from providers.base import Body
from tests.conftest import Figure
from tests.routing.test_balance import Option
from tests.routing.test_router import backend_of


@given(st.binary(max_size=4000), st.binary(max_size=4000))
def test_two_prompts_have_as_many_blocks_in_common_as_their_beginnings(one: bytes, other: bytes) -> None:
    common = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    equal = sum(a == b for a, b in zip(blocks_of(one), blocks_of(other), strict=False))
    assert equal == common // BLOCK_BYTES


def test_a_long_prompt_has_a_bounded_number_of_blocks() -> None:
    assert len(blocks_of(b"x" * BLOCK_BYTES * MAX_BLOCKS * 2)) == MAX_BLOCKS
    assert blocks_of(b"x" * (BLOCK_BYTES - 1)) == ()


def test_a_full_table_drops_the_oldest_prompts_and_their_ends_first() -> None:
    table = PrefixTable(6)
    first, second = blocks_of(b"a" * BLOCK_BYTES * 4), blocks_of(b"b" * BLOCK_BYTES * 4)
    table.record("t", first)
    table.record("t", second)
    assert (table.matched("t", first), table.matched("t", second), table.matched("other", second)) == (2, 4, 0)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0.1, 10), st.integers(0, 3)), min_size=1, max_size=6),
    st.binary(min_size=8, max_size=8),
)
def test_no_target_gets_more_than_its_bound_of_the_calls_in_flight(loads: list[tuple[int, float, int]], block: bytes) -> None:
    options = [Option(f"t{number}", weight) for number, (_, weight, _) in enumerate(loads)]
    in_flight = {option.name: load for option, (load, _, _) in zip(options, loads, strict=True)}
    matched = {option.name: length for option, (_, _, length) in zip(options, loads, strict=True)}
    chosen = balance.by_prefix(options, (block,) * 4, lambda each: matched[each.name], lambda each: in_flight[each.name])
    share = chosen.weight / sum(option.weight for option in options)
    assert in_flight[chosen.name] + 1 <= ceil(balance.LOAD_BOUND * share * (1 + sum(in_flight.values())) + 1e-9) + balance.SPARE_CALLS


# --- simulated servers ---------------------------------------------------------------------------------------------

SERVERS, CACHE_BLOCKS, BLOCKS_PER_S = 4, 1200, 400.0


class Arrival(NamedTuple):
    """One call of a trace."""

    at: float
    group: int
    body: bytes


def trace(seed: int, calls: int = 1500) -> list[Arrival]:
    """Return calls whose prompts begin with one of 60 texts, the first of which are much more frequent than the last."""
    draw = random.Random(seed)
    sizes = [draw.randint(10, 40) for _ in range(60)]
    openings = [draw.randbytes(size * BLOCK_BYTES // 2).hex() for size in sizes]
    now, arrivals = 0.0, []
    for _ in range(calls):
        now += draw.expovariate(1 / 0.0055)
        group = min(int(draw.paretovariate(0.8)) - 1, len(sizes) - 1)
        own = draw.randbytes(draw.randint(1, 4) * BLOCK_BYTES // 2).hex()
        messages = [{"role": "system", "content": openings[group]}, {"role": "user", "content": own}]
        arrivals.append(Arrival(now, group, json.dumps({"model": "m", "messages": messages}).encode()))
    return arrivals


class Server:
    """A server that reads prompts one after another and skips the leading blocks that are in its LRU cache."""

    def __init__(self) -> None:
        self.free_at = 0.0
        self.cache: OrderedDict[bytes, None] = OrderedDict()

    def first_token(self, at: float, blocks: tuple[bytes, ...]) -> float:
        """Return the time of the first token of a call that arrives at `at`."""
        cached = next((number for number, block in enumerate(blocks) if block not in self.cache), len(blocks))
        for block in reversed(blocks):
            self.cache[block] = None
            self.cache.move_to_end(block)
        while len(self.cache) > CACHE_BLOCKS:
            self.cache.popitem(last=False)
        self.free_at = max(self.free_at, at) + (1 + len(blocks) - cached) / BLOCKS_PER_S
        return self.free_at


class Gateway:
    """The router of one process, with the loads that the servers have reported to it."""

    def __init__(self, policy: Balance, seed: int) -> None:
        self.backends = {f"s{number}/m": backend_of(f"s{number}", "m") for number in range(SERVERS)}
        split = Split(tuple((Ref(f"s{number}", "m"), 1.0) for number in range(SERVERS)))
        self.model = Model("m", split, ModelConfig(name="m", targets=split, balance=policy))
        by_name: Callable[[str, str], Backend] = lambda provider, name: self.backends[f"{provider}/{name}"]  # noqa: E731
        self._draw = random.Random(seed)
        self.router = Router({"m": self.model}, by_name, draw=self._draw.random)  # type: ignore[arg-type]
        self._due = dict.fromkeys(self.backends, 0.0)

    def read_loads(self, at: float, every_s: float, in_flight: Counter[str]) -> None:
        """Read the load of each server whose next reading is due."""
        for name, due in self._due.items():
            if at >= due:
                latency = self.backends[name].latency
                latency.report_others(in_flight[name] - latency.in_flight, 3600.0)
                self._due[name] = at + every_s * (0.9 + 0.2 * self._draw.random())


def mean_wait(
    policy: Balance, arrivals: list[Arrival], *, sends_session: bool = False, processes: int = 1, every_s: float | None = None
) -> float:
    """Return the mean time to the first token, in seconds.

    With `sends_session`, calls name the group of their prompt as a session. Each call arrives at one of several processes. With
    `every_s`, the processes read the load of the servers.
    """
    gateways = [Gateway(policy, seed) for seed in range(1, processes + 1)]
    servers = {name: Server() for name in gateways[0].backends}
    draw, in_flight = random.Random(1), Counter[str]()
    ends: list[tuple[float, str, int]] = []
    total = 0.0
    for at, group, text in arrivals:
        while ends and ends[0][0] <= at:
            _, name, index = heapq.heappop(ends)
            gateways[index].backends[name].latency.in_flight -= 1
            in_flight[name] -= 1
        if every_s is not None:
            for gateway in gateways:
                gateway.read_loads(at, every_s, in_flight)
        index = draw.randrange(processes)
        gateway = gateways[index]
        body = Body(text)
        call = Call("chat", "/v1/chat/completions", body=body, body_bytes=len(text), counts=PromptCounts(body, len(text)))
        headers = [(b"x-session-id", b"%d" % group)] if sends_session else []
        query = RouteQuery(call, headers, 256)
        name = gateway.router.candidates(gateway.model, query)[0].backend.target.name
        end = servers[name].first_token(at, query.prompt_blocks)
        gateway.backends[name].latency.in_flight += 1
        in_flight[name] += 1
        heapq.heappush(ends, (end, name, index))
        total += end - at
    return total / len(arrivals)


@pytest.mark.parametrize("seed", [1, 2])
def test_under_skew_the_mean_time_to_first_token_is_at_least_a_fifth_lower_than_with_sessions(seed: int, figure: Figure) -> None:
    arrivals = trace(seed)
    prefix = mean_wait("prefix", arrivals)
    others = {
        "session by header": mean_wait("session", arrivals, sends_session=True),
        "session by the prompt": mean_wait("session", arrivals),
        "least_busy": mean_wait("least_busy", arrivals),
    }
    figure("prefix, mean time to first token", prefix * 1000, "ms")
    for name, seconds in others.items():
        figure(f"{name}, mean time to first token", seconds * 1000, "ms")
        assert prefix <= 0.8 * seconds, (name, prefix, seconds)


@pytest.mark.parametrize("seed", [1, 2])
def test_with_reported_loads_eight_processes_are_nearly_as_good_as_one(seed: int, figure: Figure) -> None:
    arrivals = trace(seed)
    without, with_reports = (mean_wait("prefix", arrivals, processes=8, every_s=every_s) for every_s in (None, 0.1))
    figure("eight processes without reported loads, mean time to first token", without * 1000, "ms")
    figure("eight processes with reported loads, mean time to first token", with_reports * 1000, "ms")
    assert with_reports <= 0.85 * without
    assert with_reports <= 1.5 * mean_wait("prefix", arrivals)
