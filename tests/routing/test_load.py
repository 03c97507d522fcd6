"""The load of the options of a split: own attempts, and requests of others if all servers report them."""

from __future__ import annotations

from typing import cast

import msgspec

import providers
from gateway.config.model import ModelSettings
from gateway.routing.load import Option, attempts_in_flight, expected_wait, load_at_servers
from gateway.targets.backend import Backend
from gateway.targets.candidate import Candidate
from gateway.targets.latency import Latency
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin
from providers.base import Target


class OneOption(msgspec.Struct):
    """An option of a split."""

    name: str
    first_candidates: tuple[Candidate, ...]


def candidate(own: int, others: int | None) -> Candidate:
    """Return a candidate with own attempts in flight, and with a report of the requests of others unless it is None."""
    target = Target("p/m", "p", providers.get("vllm"), "m", "http://x/v1")
    backend = Backend((target,), Origin("http", "x", 80), NativeTransport(), Deadlines(), latency=Latency())
    backend.latency.in_flight = own
    if others is not None:
        backend.latency.report_others(others, 60.0)
    return Candidate(backend, backend.deadlines, ModelSettings())


def option(name: str, *candidates: Candidate) -> Option:
    """Return an option that starts with any of these candidates."""
    return cast("Option", OneOption(name, candidates))


def test_requests_of_others_count_if_all_servers_report_them() -> None:
    a, b = option("a", candidate(1, 10), candidate(2, 20)), option("b", candidate(4, 0))
    load = load_at_servers([a, b])
    assert (load(a), load(b)) == (33, 4)


def test_only_own_attempts_count_if_a_server_does_not_report() -> None:
    a, b = option("a", candidate(1, 10), candidate(2, None)), option("b", candidate(4, 7))
    load = load_at_servers([a, b])
    assert (load(a), load(b)) == (3, 4)
    assert load is attempts_in_flight


def test_the_expected_wait_is_that_of_the_fastest_candidate() -> None:
    fast, slow = candidate(0, None), candidate(0, None)
    fast.backend.latency.record(0.5, stream=True)
    slow.backend.latency.record(5.0, stream=True)
    assert 0.4 < expected_wait(option("a", slow, fast), stream=True) <= 0.5
