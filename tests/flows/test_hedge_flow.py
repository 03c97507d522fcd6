"""Hedging a slow attempt: the attempt that answers, the end of the other one, billing and the hedge budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.attempts.hedge_budget import MAX_SAVED_HEDGES, HedgeBudget
from tests.faults.behaviours import WORDS, sse
from tests.faults.chat_script import answer_as_openai
from tests.faults.upstream_server import FIN, HANG, Exchange, FaultUpstream, Script, play, status
from tests.flows.conftest import RECEIPT, delayed, events, post_chat, receipt_of
from tests.flows.live import Live, eventually, live


def hedged(up: FaultUpstream, hedge: str = "100ms", targets: str = "[up/first, up/second]", rest: str = "", provider: str = "") -> str:
    """Return a configuration with the model `m` that hedges."""
    prices = "prices: { '*': { prompt: 1, output: 1 } }"
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", {prices}{provider} }}
models:
  m: {{ targets: {targets}, hedge: {hedge} }}
{rest}"""


async def ask(client: httpx.AsyncClient, gateway: Live, **more: Any) -> httpx.Response:
    """Send one call that returns its receipt in the body."""
    return await post_chat(client, gateway, **more, headers=RECEIPT)


@asynccontextmanager
async def warm(yaml: str, up: FaultUpstream, client: httpx.AsyncClient, calls: int = 20, **more: Any) -> AsyncIterator[Live]:
    """Serve a gateway that has saved hedge budget from this many fast calls. Clear the upstream's requests."""
    async with live(yaml) as gateway:
        for _ in range(calls):
            assert (await ask(client, gateway, **more)).status_code == 200
        up.requests.clear()
        yield gateway


def on(up: FaultUpstream, model: str, script: Any) -> None:
    """Set the script of one target."""
    up.on(lambda request: request.model == model, script)


def after_hedge(up: FaultUpstream, script: Script, seconds: float = 0.2) -> Script:
    """Return a script that starts this long after the hedge has reached the second target."""

    async def wait_for_hedge(exchange: Exchange) -> None:
        await up.wait_for(lambda up: any(request.model == "second" for request in up.requests), 30)
        await exchange.sleep(seconds)
        await script(exchange)

    return wait_for_hedge


@pytest.mark.parametrize("stream", [False, True])
async def test_hedge_answers_if_the_first_target_is_silent(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", play(HANG))
        answer = await ask(client, gateway, stream=stream)
        await eventually(lambda: up.requests[0].link.closed is not None)
        await eventually(lambda: gateway.count("lockgate_hedges", "m", "won") == 1)
        assert gateway.count("lockgate_attempts", "up/first", "lost") == 1
        record = (await gateway.records(21))[-1]
        assert gateway.gateway.latencies["up/first"].in_flight == gateway.gateway.latencies["up/second"].in_flight == 0
    assert answer.status_code == 200
    assert answer.headers["x-gateway-target"] == "up/second"
    assert answer.headers["x-gateway-attempts"] == "2"
    receipt = receipt_of(answer)
    assert [(attempt["target"], attempt["outcome"]) for attempt in receipt["attempts"]] == [("up/first", "lost"), ("up/second", "ok")]
    assert receipt["attempts"][0]["ms"] >= 90
    assert receipt["billed_attempts"] == record["billed_attempts"]
    (bill,) = receipt["billed_attempts"]
    usage = bill["usage"]
    assert (bill["target"], usage["completion_tokens"], usage["estimated"]) == ("up/first", 0, True)
    assert usage["prompt_tokens"] > 0
    assert bill["cost_usd"] == usage["prompt_tokens"] / 1e6
    assert receipt["cost_usd"] > bill["cost_usd"]
    if stream:
        assert events(answer.text)[-1] == "[DONE]"


async def test_fast_target_is_not_hedged(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(hedged(up, "10s")) as gateway:
        for stream in (False, True):
            answer = await ask(client, gateway, stream=stream)
            assert answer.headers["x-gateway-attempts"] == "1"
            assert "billed_attempts" not in receipt_of(answer)
        assert gateway.count("lockgate_hedges") == 0
    assert [request.model for request in up.requests] == ["first", "first"]


@pytest.mark.parametrize("stream", [False, True])
async def test_first_attempt_may_still_win_and_the_hedge_is_aborted(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", after_hedge(up, answer_as_openai))
        on(up, "second", play(HANG))
        answer = await ask(client, gateway, stream=stream)
        await eventually(lambda: all(request.link.closed for request in up.requests if request.model == "second"))
        await eventually(lambda: gateway.count("lockgate_hedges", "m", "lost") == 1)
    receipt = receipt_of(answer)
    assert answer.headers["x-gateway-target"] == "up/first"
    assert [(attempt["target"], attempt["outcome"]) for attempt in receipt["attempts"]] == [("up/second", "lost"), ("up/first", "ok")]
    assert receipt["billed_attempts"][0]["target"] == "up/second"
    assert len(up.requests) == 2


async def test_role_only_chunk_does_not_win_the_hedge(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", sse(WORDS[0], ending=HANG))
        answer = await ask(client, gateway, stream=True)
    assert answer.headers["x-gateway-target"] == "up/second"
    assert events(answer.text)[-1] == "[DONE]"


async def test_hedges_are_at_most_five_percent_of_the_calls(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "first", delayed(0.12))
    async with live(hedged(up, "1ms")) as gateway:
        concurrency = asyncio.Semaphore(8)

        async def call() -> None:
            async with concurrency:
                assert (await ask(client, gateway)).status_code == 200

        await asyncio.gather(*[call() for _ in range(110)])
        sent = len(up.requests)
        assert gateway.count("lockgate_hedges", "no_budget") >= 100
    assert 110 < sent <= 115


shares = st.floats(0.001, 0.05)


@given(shares, st.lists(st.booleans(), max_size=600))
def test_hedge_budget_never_exceeds_its_share(share: float, wanted: list[bool]) -> None:
    budget = HedgeBudget()
    paid = 0
    for calls, want in enumerate(wanted, 1):
        budget.earn(share)
        paid += want and budget.take()
        assert paid <= calls * share + 1e-3


def test_saved_hedge_budget_is_bounded() -> None:
    budget = HedgeBudget()
    for _ in range(100_000):
        budget.earn(0.05)
    assert sum(budget.take() for _ in range(1000)) == MAX_SAVED_HEDGES


async def test_quantile_hedge_starts_once_enough_calls_were_measured(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(hedged(up, "p95")) as gateway:
        on(up, "first", delayed(0.4))
        for _ in range(2):
            await ask(client, gateway, stream=True)
        assert [request.model for request in up.requests] == ["first", "first"]
        on(up, "first", answer_as_openai)
        for _ in range(45):
            await ask(client, gateway, stream=True)
        up.requests.clear()
        on(up, "first", play(HANG))
        answer = await ask(client, gateway, stream=True)
    assert answer.headers["x-gateway-target"] == "up/second"
    assert [request.model for request in up.requests] == ["first", "second"]


@pytest.mark.parametrize("second", ["answers", "fails"])
async def test_hedge_continues_if_the_first_attempt_fails_and_a_third_target_follows(
    up: FaultUpstream, client: httpx.AsyncClient, second: str
) -> None:
    async with warm(hedged(up, targets="[up/first, up/second, up/third]"), up, client) as gateway:
        on(up, "first", after_hedge(up, status(503)))
        on(up, "second", after_hedge(up, answer_as_openai if second == "answers" else status(503), 0.6))
        answer = await ask(client, gateway)
        await eventually(lambda: gateway.count("lockgate_hedges", "won" if second == "answers" else "failed") == 1)
        assert gateway.count("lockgate_attempts", "up/first", "503") == 1
    outcomes = [(attempt["target"], attempt["outcome"]) for attempt in receipt_of(answer)["attempts"]]
    if second == "answers":
        assert outcomes == [("up/first", "503"), ("up/second", "ok")]
    else:
        assert outcomes == [("up/second", "503"), ("up/first", "503"), ("up/third", "ok")]
    assert "billed_attempts" not in receipt_of(answer)


async def test_caller_error_ends_both_hedged_attempts(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", after_hedge(up, status(400, "no", type="invalid_request_error", code="nope")))
        on(up, "second", play(HANG))
        answer = await ask(client, gateway)
        await eventually(lambda: all(request.link.closed for request in up.requests if request.model == "second"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "nope")


async def test_rejected_hedge_does_not_affect_the_call(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", after_hedge(up, answer_as_openai, 0.5))
        on(up, "second", status(400, "not here", type="invalid_request_error"))
        answer = await ask(client, gateway)
    assert answer.status_code == 200
    assert answer.headers["x-gateway-target"] == "up/first"


async def test_truncated_winner_ends_with_an_error_and_without_fallback(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", play(HANG))
        on(up, "second", sse(*WORDS, ending=FIN))
        answer = await ask(client, gateway, stream=True)
        record = (await gateway.records(21))[-1]
    assert "upstream_truncated" in events(answer.text)[-1]
    assert record["target"] == "up/second"
    assert record["stream_end"] == "truncated"
    assert len(up.requests) == 2


async def test_disconnect_aborts_both_hedged_attempts(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", play(HANG))
        on(up, "second", play(HANG))
        call = asyncio.create_task(ask(client, gateway))
        await eventually(lambda: len(up.requests) == 2)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await eventually(lambda: all(request.link.closed for request in up.requests))
        record = (await gateway.records(21))[-1]
        assert gateway.gateway.latencies["up/first"].in_flight == gateway.gateway.latencies["up/second"].in_flight == 0
    assert record["status"] == 499


async def test_hedge_counts_against_limits_and_frees_provider_concurrency(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = hedged(up, provider=", limits: { concurrent: 2, requests: 23/min }").replace(
        "hedge:", "limits: { prompt_tokens: 100/min }, hedge:"
    )
    async with warm(yaml, up, client, text="a b c") as gateway:
        on(up, "first", play(HANG))
        before = int((await ask(client, gateway)).headers["x-ratelimit-remaining-tokens"])
        on(up, "first", answer_as_openai)
        after = await ask(client, gateway)
        assert after.status_code == 200
        assert before - int(after.headers["x-ratelimit-remaining-tokens"]) >= 2
        assert (await ask(client, gateway)).status_code == 429  # 20 to warm up, 2 for the hedged call, 1 after it


async def test_no_hedge_without_another_live_target(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    rest = "  n: [up/second]\n"
    async with warm(hedged(up, rest=rest, provider=", cooldown: { failures: 1, time: 60s }"), up, client) as gateway:
        on(up, "second", status(500))
        assert (await ask(client, gateway, model="n")).status_code == 502
        up.requests.clear()
        on(up, "first", delayed(0.4))
        answer = await ask(client, gateway)
    assert answer.status_code == 200
    assert [request.model for request in up.requests] == ["first"]


async def test_losing_attempt_is_billed_by_its_reported_usage(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    usage = {"prompt_tokens": 321, "completion_tokens": 0, "total_tokens": 321}
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", sse({**WORDS[0], "usage": usage}, ending=HANG))
        answer = await ask(client, gateway, stream=True)
        record = (await gateway.records(21))[-1]
    assert answer.headers["x-gateway-target"] == "up/second"
    (bill,) = record["billed_attempts"]
    assert (bill["target"], bill["usage"]["prompt_tokens"]) == ("up/first", 321)
    assert not bill["usage"].get("estimated")


async def test_usage_of_a_broken_hedge_is_in_the_receipt(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    usage = {"prompt_tokens": 321, "completion_tokens": 0, "total_tokens": 321}
    role = {**WORDS[0], "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], "usage": usage}
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", after_hedge(up, answer_as_openai, 0.5))
        on(up, "second", sse(role, ending=FIN))
        answer = await ask(client, gateway, stream=True)
        record = (await gateway.records(21))[-1]
    assert answer.headers["x-gateway-target"] == "up/first"
    (bill,) = receipt_of(answer)["billed_attempts"]
    assert (bill["target"], bill["usage"]["prompt_tokens"]) == ("up/second", 321)
    assert record["billed_attempts"] == [bill]


async def test_truncated_winner_is_continued_if_configured(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = hedged(up, targets="[up/first, up/second, up/third], continue_on_cut: true").replace("openai-compatible", "vllm")
    async with warm(yaml, up, client) as gateway:
        on(up, "first", play(HANG))
        on(up, "second", sse(*WORDS, ending=FIN))
        answer = await ask(client, gateway, stream=True)
    assert events(answer.text)[-1] == "[DONE]"
    outcomes = [(attempt["target"], attempt["outcome"]) for attempt in receipt_of(answer)["attempts"]]
    assert outcomes[:2] == [("up/first", "lost"), ("up/second", "truncated")]
    assert outcomes[2][1] == "ok"
