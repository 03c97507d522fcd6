"""Upstreams that return errors: the target in cooldown, the target that answers instead, and the error for the caller."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import openai
import pytest

from tests.faults.behaviours import completion, status
from tests.faults.client import CHAT_PATH, chat
from tests.faults.conftest import CANARY, Serve
from tests.faults.upstream_server import FaultUpstream, canned
from tests.flows.conftest import held
from tests.flows.live import eventually
from tests.running import Figure


def http_date(seconds: float) -> str:
    """Return the time `seconds` from now as an HTTP date."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "1"}, 0, 1),
        ({"retry-after": "20"}, 18, 20),
        ({"retry-after": "DATE"}, 56, 60),
        ({"retry-after": "PAST"}, 0, 1),
        ({"retry-after": "-1"}, 0, 1),
        ({"retry-after": "nan"}, 0, 1),
        ({"retry-after": "1e999"}, 0, 1),
        ({"retry-after": "86400"}, 298, 300),
        ({"retry-after": "9" * 400}, 0, 1),
        ({"retry-after": "soon"}, 0, 1),
        ({"retry-after-ms": "7500"}, 5, 7.5),
        ({"retry-after-ms": "nan", "retry-after": "9"}, 7, 9),
    ],
    ids=lambda value: "-".join(value.values())[:20] if isinstance(value, dict) else "",
)
async def test_u25_the_cooldown_after_429_follows_retry_after_within_bounds(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, headers: dict[str, str], low: float, high: float
) -> None:
    dates = {"DATE": http_date(60), "PAST": http_date(-3600)}
    up.on(
        CHAT_PATH, status(429, "slow down", {name: dates.get(value, value) for name, value in headers.items()}, code="rate_limit_exceeded")
    )
    gate = await serve((up, "mock"), (other, "mock"))
    before = time.monotonic()
    assert (await gate.ask(chat())).content
    target = (await gate.targets())["p0/mock"]
    assert time.monotonic() - before < 10
    seconds = target["cooling_seconds"]
    assert (target["state"], target["reason"]) == ("cooling", "rate_limit") or high <= 1
    assert low <= (seconds or 0) <= high
    assert gate.count("lockgate_cooldowns", "p0/mock", "rate_limit") == 1
    if high > 1:
        assert (await gate.ask(chat())).content
        assert len(up.requests) == 1


async def test_u25_the_cooldown_after_429_follows_google_retry_info(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]
    body = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED", "details": details}}
    up.on(CHAT_PATH, canned(json.dumps(body).encode(), 429))
    gate = await serve((up, "mock"), (other, "mock"))
    assert (await gate.ask(chat())).content
    assert 30 < (await gate.targets())["p0/mock"]["cooling_seconds"] <= 34.5


async def test_u25_429_of_the_only_target_is_returned_with_retry_after(serve: Serve, up: FaultUpstream) -> None:
    up.on(CHAT_PATH, status(429, "slow down", {"retry-after": "17"}, code="rate_limit_exceeded"))
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat())
    assert (answer.status, answer.error["code"], answer.error["type"]) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert (answer.header("retry-after"), answer.header("retry-after-ms")) == ("17", "17000")
    assert answer.header("x-should-retry") is None
    assert len(up.requests) == 1


async def test_u25_a_call_waits_for_a_short_cooldown_of_the_only_target(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    up.once(status(429, "slow down", {"retry-after": "1"}))
    assert (await gate.ask(chat())).status == 429
    assert (await gate.ask(chat())).content == "w0 w1 w2 w3 w4 "
    first, second = up.requests
    assert second.at - first.at >= 0.9
    await gate.records(2)


async def test_u25_the_only_target_is_probed_during_a_long_cooldown(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    up.once(status(429, "slow down", {"retry-after": "86400"}))
    refused = await gate.ask(chat())
    assert (refused.status, refused.header("retry-after"), refused.header("x-should-retry")) == (429, "86400", "false")
    assert (await gate.ask(chat())).content
    assert (await gate.targets())["p0/mock"]["state"] == "live"


async def test_u25_a_target_is_probed_by_one_call_at_a_time_before_its_retry_after(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    up.once(status(429, "slow down", {"retry-after": "60"}))
    await gate.ask(chat())
    up.delay = 0.1
    up.chunks = 4
    answers = await asyncio.gather(*[gate.ask(chat(stream=True)) for _ in range(20)])
    assert [answer.status for answer in answers].count(200) < 20
    refused = [answer for answer in answers if answer.status != 200]
    assert {(answer.status, answer.error["code"]) for answer in refused} == {(429, "rate_limit_exceeded")}
    assert all(50 <= int(answer.header("retry-after") or 0) <= 67 for answer in refused)
    assert len(up.requests) == 1 + 20 - len(refused)


async def test_a_retry_waits_for_retry_after_of_the_only_target(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"), model={"retries": 1})
    up.once(status(429, "slow down", {"retry-after-ms": "400"}))
    answer = await gate.ask(chat())
    assert answer.content
    assert answer.header("x-gateway-attempts") == "2"
    assert up.requests[1].at - up.requests[0].at >= 0.4
    assert gate.count("lockgate_retries", "p0/mock") == 1


@pytest.mark.parametrize(("number", "code"), [(429, "insufficient_quota"), (402, None), (429, "billing_hard_limit_reached")])
async def test_u26_an_exhausted_quota_starts_a_cooldown_of_five_minutes(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, number: int, code: str | None
) -> None:
    up.on(CHAT_PATH, status(number, "You exceeded your current quota", code=code))
    gate = await serve((up, "mock"), (other, "mock"), model={"retries": 2})
    for _ in range(5):
        assert (await gate.ask(chat())).content
    assert len(up.requests) == 1
    target = (await gate.targets())["p0/mock"]
    assert target["reason"] == "quota"
    assert 290 < target["cooling_seconds"] <= 300


async def test_u26_an_exhausted_quota_of_the_only_target_is_429_without_retry(serve: Serve, up: FaultUpstream) -> None:
    up.on(CHAT_PATH, status(429, "You exceeded your current quota", code="insufficient_quota"))
    gate = await serve((up, "mock"))
    async with gate.openai_client(max_retries=2) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(up.requests) == 1


@pytest.mark.parametrize("number", [500, 502, 503, 504, 529])
async def test_u27_a_target_is_in_cooldown_after_five_failures(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, third: FaultUpstream, number: int
) -> None:
    up.on(CHAT_PATH, status(number))
    gate = await serve((up, "mock"), (other, "mock"), (third, "mock"))
    answers = [await gate.ask(chat()) for _ in range(30)]
    assert [answer.status for answer in answers] == [200] * 30
    assert (len(up.requests), len(other.requests), len(third.requests)) == (5, 30, 0)
    target = (await gate.targets())["p0/mock"]
    assert (target["state"], target["reason"]) == ("cooling", "failures")
    assert 20 < target["cooling_seconds"] <= 30


def split(*ups: FaultUpstream) -> dict[str, Any]:
    """Return the settings of a model with a split of equal weights."""
    return {"targets": [{f"p{index}/mock": 1 for index in range(len(ups))}]}


async def test_u27_a_failing_target_of_a_split_causes_no_caller_errors(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream, third: FaultUpstream
) -> None:
    ups = (up, other, third)
    gate = await serve(*[(upstream, "mock") for upstream in ups], model=split(*ups))
    assert {(await gate.ask(chat())).content for _ in range(100)}
    up.on(CHAT_PATH, status(500))
    failed, before = 0, len(up.requests)
    for _ in range(20):
        failed += sum(answer.status != 200 for answer in await asyncio.gather(*[gate.ask(chat()) for _ in range(15)]))
    sent = sum(len(upstream.requests) for upstream in ups) - 100
    figure("caller errors in 300 calls", failed, "")
    figure("upstream attempts per call", sent / 300, "")
    assert failed == 0
    assert len(up.requests) - before <= 20
    assert sent <= 360
    assert len(other.requests) > 60
    assert len(third.requests) > 60


async def test_u27_one_probe_ends_the_cooldown_of_a_recovered_target(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    gate = await serve((up, "mock"), (other, "mock"), first={"cooldown": {"failures": 2, "time": "1500ms"}})
    up.on(CHAT_PATH, status(500))
    for _ in range(6):
        assert (await gate.ask(chat())).content
    assert len(up.requests) == 2
    deadline = time.monotonic() + 20
    while (await gate.targets())["p0/mock"]["state"] != "probing":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    up.reset()
    release = asyncio.Event()
    up.on(CHAT_PATH, held(release))
    calls = [asyncio.create_task(gate.ask(chat(stream=True))) for _ in range(8)]
    await eventually(lambda: sum(call.done() for call in calls) == 7)
    release.set()
    answers = await asyncio.gather(*calls)
    assert [answer.header("x-gateway-target") for answer in answers].count("p0/mock") == 1
    assert (await gate.targets())["p0/mock"]["state"] == "live"
    assert (await gate.ask(chat())).header("x-gateway-target") == "p0/mock"


async def test_attempts_limits_the_attempts_of_a_call(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    for upstream in (up, other):
        upstream.on(CHAT_PATH, status(500))
    gate = await serve((up, "mock"), (other, "mock"), model={"attempts": 1})
    assert (await gate.ask(chat())).header("x-gateway-attempts") == "1"
    assert len(up.requests) + len(other.requests) == 1


@pytest.mark.parametrize(("number", "counted"), [(401, "auth"), (403, None)])
async def test_u30_a_refused_credential_is_502_and_never_401(serve: Serve, up: FaultUpstream, number: int, counted: str | None) -> None:
    up.on(CHAT_PATH, status(number, f"Incorrect API key provided: {CANARY}"))
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat())
    assert (answer.status, answer.error["code"], answer.header("x-should-retry")) == (502, "upstream_auth_error", "false")
    target = (await gate.targets())["p0/mock"]
    assert target["reason"] == counted
    assert len(up.requests) == 1


async def test_u30_a_refused_credential_falls_back_and_starts_a_cooldown(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    up.on(CHAT_PATH, status(401, "no"))
    gate = await serve((up, "mock"), (other, "mock"))
    for _ in range(4):
        assert (await gate.ask(chat())).content
    assert len(up.requests) == 1
    assert 500 < (await gate.targets())["p0/mock"]["cooling_seconds"] <= 600


@pytest.mark.parametrize("number", [400, 404, 409, 422])
async def test_u31_a_client_error_is_returned_and_does_not_count_against_the_target(
    serve: Serve, up: FaultUpstream, other: FaultUpstream, number: int
) -> None:
    up.on(CHAT_PATH, status(number, "This model's maximum length is 10", type="invalid_request_error", code="its_own", param="messages"))
    gate = await serve((up, "mock"), (other, "mock"), first={"cooldown": {"failures": 1}}, model={"retries": 2})
    for _ in range(8):
        answer = await gate.ask(chat())
        assert (answer.status, answer.error["code"], answer.error["param"]) == (number, "its_own", "messages")
        assert answer.header("x-should-retry") == "false"
    assert (len(up.requests), other.requests) == (8, [])
    assert (await gate.targets())["p0/mock"]["state"] == "live"


async def test_a_callers_own_deadline_does_not_count_against_the_target(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    up.delay = 10
    gate = await serve((up, "mock"), (other, "mock"), first={"cooldown": {"failures": 1}})
    for _ in range(3):
        assert (await gate.ask(chat(timeout_microseconds=300_000))).status == 504
    assert (await gate.targets())["p0/mock"]["state"] == "live"


async def test_each_credential_has_its_own_cooldown(serve: Serve, up: FaultUpstream) -> None:
    def refuses(request: Any) -> bool:
        return bool(request.header("authorization") == "Bearer second")

    up.on(refuses, status(429, "slow down", {"retry-after": "60"}))
    keys = [f"${{{name.upper()}_KEY:-{name}}}" for name in ("first", "second", "third")]
    gate = await serve((up, "mock"), first={"api_key": keys})
    for _ in range(9):
        assert (await gate.ask(chat())).content
    used = [request.header("authorization") for request in up.requests]
    assert used.count("Bearer second") == 1
    assert used.count("Bearer first") >= 3
    assert used.count("Bearer third") >= 3
    target = (await gate.targets())["p0/mock"]
    assert target["state"] == "live"
    assert [credential.get("state", "live") for credential in target["credentials"]] == ["live", "cooling", "live"]
    assert 'second"' not in json.dumps(target)


async def test_u41_a_slow_target_does_not_delay_calls_to_other_targets(
    serve: Serve, figure: Figure, up: FaultUpstream, other: FaultUpstream
) -> None:
    release = asyncio.Event()
    up.on(CHAT_PATH, held(release))
    limits = {"max_concurrent": 10, "max_queue": 20, "max_wait": "60s"}
    gate = await serve((up, "mock"), first=limits, top={"expose_targets": True})
    other_gate = await serve((other, "mock"))
    calls = [asyncio.create_task(gate.ask(chat())) for _ in range(300)]
    await eventually(lambda: gate.count("lockgate_shed") == 270, 40)
    target = (await gate.targets())["p0/mock"]
    assert (target["in_flight"], target["waiting"], target["shed"]) == (10, 20, 270)
    assert up.ledger.open <= 10
    times = []
    for _ in range(20):
        began = time.monotonic()
        assert (await other_gate.ask(chat())).content
        times.append(time.monotonic() - began)
    figure("median of the calls to another target", sorted(times)[10] * 1000, "ms")
    release.set()
    answers = await asyncio.gather(*calls)
    assert [answer.status for answer in answers].count(200) == 30
    refused = [answer for answer in answers if answer.status != 200]
    assert {(answer.status, answer.error["code"]) for answer in refused} == {(503, "overloaded")}
    assert all(answer.header("retry-after") for answer in refused)
    assert (await gate.targets())["p0/mock"]["state"] == "live"


NO_COOLDOWN = {"failures": 1000, "rate": "100%"}


async def test_u27_a_successful_fallback_costs_no_retry_budget(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    up.on(CHAT_PATH, status(500))
    gate = await serve((up, "mock"), (other, "mock"), first={"cooldown": NO_COOLDOWN})
    for _ in range(40):
        assert (await gate.ask(chat())).content
    assert (len(up.requests), len(other.requests)) == (40, 40)
    assert gate.count("lockgate_retry_budget_exhausted") == 0


async def test_u28_a_successful_retry_costs_retry_budget(serve: Serve, up: FaultUpstream) -> None:
    async def fail_every_other(exchange: Any) -> None:
        await (status(500) if len(up.requests) % 2 else canned(completion("hello")))(exchange)

    up.on(CHAT_PATH, fail_every_other)
    gate = await serve((up, "mock"), first={"cooldown": NO_COOLDOWN}, model={"retries": 1})
    began = time.monotonic()
    answers = [(await gate.ask(chat())).status for _ in range(60)]
    assert len(up.requests) <= 60 * 1.2 + 10 + (time.monotonic() - began)
    assert answers.count(500) + answers.count(502) > 0
    assert gate.count("lockgate_retry_budget_exhausted") > 0


async def test_u41_a_full_queue_falls_back_to_the_next_target(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> None:
    up.delay = 0.1
    gate = await serve((up, "mock"), (other, "mock"), first={"max_concurrent": 2, "max_queue": 0})
    answers = await asyncio.gather(*[gate.ask(chat()) for _ in range(30)])
    assert {answer.status for answer in answers} == {200}
    assert len(other.requests) >= 26
    assert gate.count("lockgate_retry_budget_exhausted") == 0
