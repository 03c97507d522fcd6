"""Limits of keys, users, models, providers and targets, enforced in memory or by a scripted store."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.call import Attempt
from gateway.config.limit import LimitsConfig, Rate
from gateway.config.load import parse
from gateway.errors import GatewayError
from gateway.keys.from_config import VirtualKeys
from gateway.keys.virtual_key import VirtualKey
from gateway.limits import enforce
from gateway.limits.enforce import Limits
from gateway.metrics.registry import Metrics
from gateway.store.limit import Costs, Limit, LimitStatus, Refusal, Reservation
from gateway.store.memory import MemoryLimiter
from providers.base import Failure
from tests.support.attempts import call_with, target_named
from tests.support.each import each

YAML = b"""
providers:
  a: { type: vllm, base_url: "http://h/v1", limits: { requests: 1/h } }
models:
  m: { targets: a/x, limits: { requests: 1/h } }
"""


async def test_the_call_beyond_a_models_limit_is_refused_and_counted() -> None:
    metrics = Metrics(["m"], ["a/x"])
    limits = Limits(parse(YAML, "g.yaml", environ={}), MemoryLimiter(), metrics)
    first, second = call_with(), call_with()
    await limits.admit(first, limits.of_caller(first, "m"), [target_named("a/x")])
    assert first.reservation is not None
    with pytest.raises(GatewayError) as refused:
        await limits.admit(second, limits.of_caller(second, "m"), [target_named("a/x")])
    assert refused.value.status == 429
    counts = metrics.counts["lockgate_limit_decisions"]
    assert counts[("model", "requests", "refused", "memory")] == counts[("model", "requests", "admitted", "memory")] > 0


async def test_the_limit_of_a_provider_makes_the_attempt_fail() -> None:
    metrics = Metrics(["m"], ["a/x"])
    limits = Limits(parse(YAML, "g.yaml", environ={}), MemoryLimiter(), metrics)
    assert limits.has_target_limits
    await limits.admit_target(call_with(), target_named("a/x"))
    failure = await limits.admit_target(call_with(), target_named("a/x"))
    assert getattr(failure, "kind", None) == "rate_limit"
    assert await limits.admit_target(call_with(), target_named("b/y")) is None
    counts = metrics.counts["lockgate_limit_decisions"]
    assert counts[("provider", "requests", "refused", "memory")] == counts[("provider", "requests", "admitted", "memory")] > 0


KEYS = b"""
providers:
  a: { type: vllm, base_url: "http://h/v1" }
models: { m: a/x, n: a/y }
teams: { t: { models: { "*": { limits: { requests: 2/h } } } } }
keys: { k: { hash: "sha256:HASH", team: t, models: { m: { limits: { requests: 1/h } }, n: {} } } }
""".replace(b"HASH", b"0" * 62 + b"1f")


async def test_limits_of_models_apply_to_the_models_that_a_call_asks_for() -> None:
    config = parse(KEYS, "g.yaml", environ={})
    limits = Limits(config, MemoryLimiter(), Metrics(["m"], ["a/x"]))
    (key,) = VirtualKeys(config.keys.values(), config.teams).values()
    refused: list[str] = []
    for model in ("m", "m", "n", "n"):
        call = call_with(key=key)
        call.model = model
        try:
            await limits.admit(call, limits.of_caller(call, model), [target_named("a/x")])
        except GatewayError as error:
            refused.append(error.message.partition(":")[0])
    assert refused == [
        "Rate limit reached for the key 'k' and the model 'm'",
        "Rate limit reached for the team 't' and the model '*'",
    ]
    passed = call_with(key=key)
    passed.model = ""
    assert limits.of_caller(passed, "") == ()


USER_LIMITS = LimitsConfig(requests=(Rate(2, "h"),))


def limits_with(text: bytes = YAML, limiter: Any = None) -> Limits:
    """Return the limits of a configuration."""
    return Limits(parse(text, "g.yaml", environ={}), limiter or MemoryLimiter(), Metrics(["m"], ["a/x"]))


def test_limits_come_from_the_key_the_model_and_the_user() -> None:
    limits, own = limits_with(), Limit("key:k", "requests", 3, "h")
    for_one = (("n", (Limit("key:k", "requests", 1, "h", model="n"),)),)
    key = VirtualKey("k", limits=(own,), model_limits=for_one, limits_per_user=USER_LIMITS)
    call = call_with(key=key, end_user="u")
    user = f"user:k:{hashlib.sha256(b'u').hexdigest()[:32]}"
    assert [limit.owner for limit in limits.of_caller(call, "m")] == ["key:k", "model:m", user]
    call.model = "n"
    assert [limit.model for limit in limits.of_caller(call, "other")] == ["", "n", ""]
    call.model = ""
    assert [limit.model for limit in limits.of_caller(call, "other")] == ["", ""]
    assert [limit.owner for limit in limits.of_caller(call_with(), "m")] == ["model:m"]
    assert limits.of_caller(call_with(key=VirtualKey("k")), "other") == ()


@each(("user", "name"), [("", "-"), ("\ud800", hashlib.sha256(b"\xed\xa0\x80").hexdigest()[:32])])
def test_a_user_is_named_by_a_digest(user: str, name: str) -> None:
    call = call_with(key=VirtualKey("k", limits_per_user=USER_LIMITS), end_user=user)
    assert [limit.owner for limit in limits_with().of_caller(call, "other")] == [f"user:k:{name}"]


@each("strict", [True, False])
def test_the_limits_of_a_strict_key_are_strict_for_its_users(strict: bool) -> None:
    call = call_with(key=VirtualKey("k", strict=strict, limits_per_user=USER_LIMITS))
    assert [limit.strict for limit in limits_with().of_caller(call, "other")] == [strict]


def test_limits_of_users_are_built_once_until_the_key_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforce, "MAX_CACHED_USERS", 2)
    limits = limits_with()

    def of(user: str, block: LimitsConfig = USER_LIMITS) -> Limit:
        return limits.of_caller(call_with(key=VirtualKey("k", limits_per_user=block), end_user=user), "other")[0]

    first, second = of("a"), of("b")
    assert (of("a"), of("b")) == (first, second)
    of("c")  # one more than is kept
    assert first is not of("a")
    assert of("a") is of("a")
    assert of("a", LimitsConfig(requests=(Rate(9, "h"),))).amount == 9


class Scripted:
    """A store with one decision for every call."""

    def __init__(self, decision: Reservation | Refusal) -> None:
        self.decision = decision
        self.ids: list[str] = []

    async def admit(self, limits: Sequence[Limit], costs: Costs, id: str) -> Reservation | Refusal:
        self.ids.append(id)
        return self.decision


REQUESTS, BUDGET, TOKENS = (
    Limit("provider:a", "requests", 5, "h"),
    Limit("provider:a", "spend", 5, "day"),
    Limit("key:k", "tokens", 90, "h"),
)


@pytest.mark.parametrize(
    ("refusal", "kind", "message"),
    [
        (Refusal(REQUESTS, 3.0, unavailable=True, degraded=True), "overloaded", "the limit store is unavailable"),
        (Refusal(BUDGET, 3.0, unavailable=True, degraded=True), "overloaded", "the limit store is unavailable"),
        (Refusal(BUDGET, 3.0), "quota", "the gateway's own limit of 0.000000005 USD per day is used up"),
        (
            Refusal(BUDGET, 3.0, busy=True),
            "rate_limit",
            "the gateway's own limit of 0.000000005 USD per day is reserved by calls in flight",
        ),
        (Refusal(REQUESTS, None), "rate_limit", "this request alone exceeds the gateway's own limit of 5 requests per h"),
        (Refusal(BUDGET, None), "quota", "this request alone exceeds the gateway's own limit of 0.000000005 USD per day"),
        (Refusal(BUDGET, math.inf), "quota", "the gateway's own limit of 0.000000005 USD per day is used up"),
    ],
)
async def test_a_refusal_at_a_target_says_why(refusal: Refusal, kind: str, message: str) -> None:
    failure = await limits_with(limiter=Scripted(refusal)).admit_target(call_with(), target_named("a/x"))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.message, failure.is_own) == (kind, message, True)
    if refusal.retry_after in (None, math.inf):
        assert failure.retry_after == math.inf
    else:
        assert failure.retry_after is not None
        assert 3.0 <= failure.retry_after <= 3.3


async def test_a_reservation_at_a_target_is_named_by_its_call_and_a_number() -> None:
    held = Reservation("x", [TOKENS], Costs(1, 80), [1], (), 0)
    store = Scripted(held)
    limits = limits_with(limiter=store)
    call = call_with(b'{"max_tokens":7}', attempts=[Attempt(target_named("a/x")), Attempt(target_named("a/x"))])
    assert await limits.admit_target(call, target_named("a/x")) is held
    assert store.ids == [f"{call.id}.1"]
    # the call is in flight, and a refusal that is due to it has a short wait
    store.decision = Refusal(TOKENS, 50.0, [LimitStatus(TOKENS, 10, 60.0)])
    failure = await limits.admit_target(call, target_named("a/x"))
    assert "reserved by calls in flight" in failure.message
    with pytest.raises(GatewayError, match="reserved by calls in flight"):
        await limits.admit(call, [TOKENS], [target_named("a/x")])


async def test_a_call_shows_the_state_of_its_limits() -> None:
    held = Reservation("x", [REQUESTS], Costs(), [1], [LimitStatus(REQUESTS, 4, 1.0)], 0)
    call = call_with()
    await limits_with(limiter=Scripted(held)).admit(call, [REQUESTS], [])
    assert call.reservation is held
    assert dict(call.limit_headers)[b"x-ratelimit-remaining-requests"] == b"4"


@each(
    ("decision", "counted"),
    [
        (
            Reservation("x", (), Costs(), (), (), 0),
            {("provider", "requests", "admitted", "shared"), ("provider", "spend", "admitted", "shared")},
        ),
        (
            Reservation("x", (), Costs(), (), (), 0, degraded=True),
            {("provider", "requests", "admitted", "local_share"), ("provider", "spend", "admitted", "local_share")},
        ),
        (Refusal(BUDGET, 1.0), {("provider", "spend", "refused", "shared")}),
        (Refusal(BUDGET, 1.0, degraded=True), {("provider", "spend", "refused", "local_share")}),
    ],
)
def test_a_decision_is_counted_for_its_limits_and_by_the_mode(decision: Reservation | Refusal, counted: set[tuple[str, ...]]) -> None:
    metrics = Metrics(["m"], ["a/x"])
    limits = Limits(parse(YAML, "g.yaml", environ={}), Scripted(decision), metrics)  # type: ignore[arg-type]
    limits._count([REQUESTS, BUDGET], decision)
    assert set(metrics.counts["lockgate_limit_decisions"]) == counted


TARGETS = b"""
providers:
  a: { type: vllm, base_url: "http://h/v1", models: { x: { limits: { requests: 7/h } }, y: {} }, limits: { requests: 5/h } }
  b: { type: vllm, base_url: "http://h/v1", models: { x: { limits: { requests: 6/h } } } }
  c: { type: vllm, base_url: "http://h/v1" }
models: { m: [a/x, a/y, b/x, c/x] }
"""


@each(
    ("target", "owners"),
    [
        ("a/x", ["provider:a", "target:a/x"]),
        ("a/y", ["provider:a"]),
        ("a/z", ["provider:a"]),
        ("b/x", ["target:b/x"]),
        ("b/y", []),
        ("c/x", []),
    ],
)
def test_the_limits_of_a_target_follow_those_of_its_provider(target: str, owners: list[str]) -> None:
    found = limits_with(TARGETS).of_target(target_named(target))
    assert [(limit.owner, limit.side) for limit in found] == [(owner, "target") for owner in owners]


NONE = b"""
providers: { a: { type: vllm, base_url: "http://h/v1" PROVIDER } }
models: { m: { targets: a/x MODEL } }
keys: { k: { hash: "sha256:HASH" KEY } }
teams: { t: { TEAM } }
""".replace(b"HASH", b"0" * 64)
LIMIT = b", limits: { tokens: 9/h }"


@each(
    ("place", "text", "counts", "has_targets"),
    [
        (b"", b"", False, False),
        (b"MODEL", LIMIT, True, False),
        (b"MODEL", b", limits: { requests: 9/h }", False, False),
        (b"PROVIDER", LIMIT, True, True),
        (b"PROVIDER", b", models: { x: { limits: { tokens: 9/h } } }", True, True),
        (b"PROVIDER", b", limits: { requests: 9/h }", False, True),
        (b"KEY", LIMIT, True, False),
        (b"KEY", b", limits_per_user: { tokens: 9/h }", True, False),
        (b"TEAM", LIMIT[2:], True, False),
    ],
)
def test_tokens_are_counted_if_any_limit_needs_them(place: bytes, text: bytes, counts: bool, has_targets: bool) -> None:
    source = NONE.replace(place, text) if place else NONE
    for other in (b"PROVIDER", b"MODEL", b"KEY", b"TEAM"):
        source = source.replace(other, b"")
    limits = limits_with(source)
    assert (limits.counts_tokens, limits.has_target_limits) == (counts, has_targets)


async def test_decisions_and_settlements_note_budgets_for_the_gauges() -> None:
    held = Reservation("x", [BUDGET], Costs(), [1], (), 0)
    noted: list[list[str]] = []
    for act in ("admit", "admit_target", "settle"):
        limits = limits_with(b"""
providers: { a: { type: vllm, base_url: "http://h/v1", prices: { "*": { prompt: 1, output: 1 } }, limits: { spend: 1 USD/day } } }
models: { m: a/x }
""", MemoryLimiter() if act == "settle" else Scripted(held))  # fmt: skip
        if act == "admit":
            await limits.admit(call_with(b"{}"), [BUDGET], [target_named("a/x")])
        elif act == "admit_target":
            await limits.admit_target(call_with(b"{}"), target_named("a/x"))
        else:
            limits.settle(call_with(b"{}"), held)
        noted.append([limit.owner for limit in limits.budget_gauge._noted.values()])
    assert noted == [["provider:a"]] * 3
