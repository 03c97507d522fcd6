"""A second attempt when the first is slow: who answers, what becomes of the other, who pays, and how often it may happen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.attempts.hedge import MAX_SAVED_HEDGES, HedgeBudget
from tests.faults.behaviours import WORDS, sse
from tests.faults.chat_script import answer_as_openai
from tests.faults.upstream_server import FIN, HANG, Exchange, FaultUpstream, play, status
from tests.flows.conftest import chat, events
from tests.flows.live import Live, eventually, live


def hedged(up: FaultUpstream, hedge: str = "100ms", targets: str = "[up/first, up/second]", rest: str = "", provider: str = "") -> str:
    """The model `m` with a hedge."""
    prices = "prices: { '*': { prompt: 1, output: 1 } }"
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", {prices}{provider} }}
models:
  m: {{ targets: {targets}, hedge: {hedge} }}
{rest}"""


async def ask(client: httpx.AsyncClient, gateway: Live, **more: Any) -> httpx.Response:
    """One call that wants its receipt."""
    return await client.post(gateway.base_url + "/chat/completions", json=chat(**more), headers={"x-gateway-receipt": "body"})


@asynccontextmanager
async def warm(yaml: str, up: FaultUpstream, client: httpx.AsyncClient, calls: int = 20, **more: Any) -> AsyncIterator[Live]:
    """A gateway after so many quick calls, which pay for a second attempt; the upstream's books begin anew."""
    async with live(yaml) as gateway:
        for _ in range(calls):
            assert (await ask(client, gateway, **more)).status_code == 200
        up.requests.clear()
        yield gateway


def receipt(answer: httpx.Response) -> dict[str, Any]:
    """What the answer says about itself."""
    text = answer.text if answer.text.startswith("{") else events(answer.text)[-2]
    found: dict[str, Any] = json.loads(text)["gateway"]
    return found


def on(up: FaultUpstream, model: str, script: Any) -> None:
    """What one target does."""
    up.on(lambda request: request.model == model, script)


def slow(seconds: float) -> Any:
    """An answer as OpenAI's, later."""

    async def script(exchange: Exchange) -> None:
        await exchange.sleep(seconds)
        await answer_as_openai(exchange)

    return script


@pytest.mark.parametrize("stream", [False, True])
async def test_the_second_answers_when_the_first_says_nothing(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
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
    found = receipt(answer)
    assert [(one["target"], one["outcome"]) for one in found["attempts"]] == [("up/first", "lost"), ("up/second", "ok")]
    assert found["attempts"][0]["ms"] >= 90
    assert found["billed_attempts"] == record["billed_attempts"]
    (bill,) = found["billed_attempts"]
    usage = bill["usage"]
    assert (bill["target"], usage["completion_tokens"], usage["estimated"]) == ("up/first", 0, True)
    assert usage["prompt_tokens"] > 0
    assert bill["cost_usd"] == usage["prompt_tokens"] / 1e6
    assert found["cost_usd"] > bill["cost_usd"]
    if stream:
        assert events(answer.text)[-1] == "[DONE]"


async def test_a_target_that_is_quick_enough_is_asked_alone(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(hedged(up, "10s")) as gateway:
        for stream in (False, True):
            answer = await ask(client, gateway, stream=stream)
            assert answer.headers["x-gateway-attempts"] == "1"
            assert "billed_attempts" not in receipt(answer)
        assert gateway.count("lockgate_hedges") == 0
    assert [request.model for request in up.requests] == ["first", "first"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_may_still_win_and_the_second_is_given_up(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", slow(0.6))
        on(up, "second", play(HANG))
        answer = await ask(client, gateway, stream=stream)
        await eventually(lambda: all(request.link.closed for request in up.requests if request.model == "second"))
        await eventually(lambda: gateway.count("lockgate_hedges", "m", "lost") == 1)
    found = receipt(answer)
    assert answer.headers["x-gateway-target"] == "up/first"
    assert [(one["target"], one["outcome"]) for one in found["attempts"]] == [("up/second", "lost"), ("up/first", "ok")]
    assert found["billed_attempts"][0]["target"] == "up/second"
    assert len(up.requests) == 2


async def test_role_only_preambles_do_not_win(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", sse(WORDS[0], ending=HANG))
        answer = await ask(client, gateway, stream=True)
    assert answer.headers["x-gateway-target"] == "up/second"
    assert events(answer.text)[-1] == "[DONE]"


async def test_second_attempts_are_at_most_five_percent_of_the_calls(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "first", slow(0.12))
    async with live(hedged(up, "1ms")) as gateway:
        limits = asyncio.Semaphore(8)

        async def one() -> None:
            async with limits:
                assert (await ask(client, gateway)).status_code == 200

        await asyncio.gather(*[one() for _ in range(110)])
        sent = len(up.requests)
        assert gateway.count("lockgate_hedges", "no_budget") >= 100
    assert 110 < sent <= 115


shares = st.floats(0.001, 0.05)


@given(shares, st.lists(st.booleans(), max_size=600))
def test_the_budget_never_pays_for_more_than_its_share(share: float, wanted: list[bool]) -> None:
    budget = HedgeBudget()
    paid = 0
    for calls, want in enumerate(wanted, 1):
        budget.earn(share)
        paid += want and budget.take()
        assert paid <= calls * share + 1e-3


def test_what_is_saved_up_is_bounded() -> None:
    budget = HedgeBudget()
    for _ in range(100_000):
        budget.earn(0.05)
    assert sum(budget.take() for _ in range(1000)) == MAX_SAVED_HEDGES


async def test_a_quantile_hedges_once_enough_was_seen(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(hedged(up, "p95")) as gateway:
        on(up, "first", slow(0.4))
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
async def test_when_the_first_fails_meanwhile_the_second_goes_on_and_then_the_third(
    up: FaultUpstream, client: httpx.AsyncClient, second: str
) -> None:
    async def fail_later(exchange: Exchange) -> None:
        await exchange.sleep(0.3)
        await status(503)(exchange)

    async with warm(hedged(up, targets="[up/first, up/second, up/third]"), up, client) as gateway:
        on(up, "first", fail_later)
        on(up, "second", slow(0.5) if second == "answers" else fail_later)
        answer = await ask(client, gateway)
        await eventually(lambda: gateway.count("lockgate_hedges", "won" if second == "answers" else "failed") == 1)
        assert gateway.count("lockgate_attempts", "up/first", "503") == 1
    outcomes = [(one["target"], one["outcome"]) for one in receipt(answer)["attempts"]]
    if second == "answers":
        assert outcomes == [("up/first", "503"), ("up/second", "ok")]
    else:
        assert outcomes == [("up/second", "503"), ("up/first", "503"), ("up/third", "ok")]
    assert "billed_attempts" not in receipt(answer)


async def test_a_callers_own_mistake_ends_both(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async def refuse_later(exchange: Exchange) -> None:
        await exchange.sleep(0.3)
        await status(400, "no", type="invalid_request_error", code="nope")(exchange)

    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", refuse_later)
        on(up, "second", play(HANG))
        answer = await ask(client, gateway)
        await eventually(lambda: all(request.link.closed for request in up.requests if request.model == "second"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "nope")


async def test_a_second_attempt_that_is_refused_changes_nothing(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", slow(0.5))
        on(up, "second", status(400, "not here", type="invalid_request_error"))
        answer = await ask(client, gateway)
    assert answer.status_code == 200
    assert answer.headers["x-gateway-target"] == "up/first"


async def test_a_winner_that_is_cut_ends_with_an_error_and_nobody_takes_over(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", play(HANG))
        on(up, "second", sse(*WORDS, ending=FIN))
        answer = await ask(client, gateway, stream=True)
        record = (await gateway.records(21))[-1]
    assert "upstream_truncated" in events(answer.text)[-1]
    assert record["target"] == "up/second"
    assert record["stream_end"] == "truncated"
    assert len(up.requests) == 2


async def test_a_caller_who_leaves_ends_both(up: FaultUpstream, client: httpx.AsyncClient) -> None:
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


async def test_both_count_for_the_callers_limits_and_the_providers_concurrency_is_freed(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
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
        assert (await ask(client, gateway)).status_code == 429  # 20 before, 2 for one call, 1 after it


async def test_without_another_live_target_there_is_no_second_attempt(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    rest = "  n: [up/second]\n"
    async with warm(hedged(up, rest=rest, provider=", cooldown: { failures: 1, time: 60s }"), up, client) as gateway:
        on(up, "second", status(500))
        assert (await ask(client, gateway, model="n")).status_code == 502
        up.requests.clear()
        on(up, "first", slow(0.4))
        answer = await ask(client, gateway)
    assert answer.status_code == 200
    assert [request.model for request in up.requests] == ["first"]


async def test_what_a_loser_said_that_it_used_is_what_it_is_billed_by(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    usage = {"prompt_tokens": 321, "completion_tokens": 0, "total_tokens": 321}
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", sse({**WORDS[0], "usage": usage}, ending=HANG))
        answer = await ask(client, gateway, stream=True)
        record = (await gateway.records(21))[-1]
    assert answer.headers["x-gateway-target"] == "up/second"
    (bill,) = record["billed_attempts"]
    assert (bill["target"], bill["usage"]["prompt_tokens"]) == ("up/first", 321)
    assert not bill["usage"].get("estimated")


async def test_what_a_rival_that_broke_had_used_is_in_the_receipt_too(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    usage = {"prompt_tokens": 321, "completion_tokens": 0, "total_tokens": 321}
    role = {**WORDS[0], "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], "usage": usage}
    async with warm(hedged(up), up, client) as gateway:
        on(up, "first", slow(0.6))
        on(up, "second", sse(role, ending=FIN))
        answer = await ask(client, gateway, stream=True)
        record = (await gateway.records(21))[-1]
    assert answer.headers["x-gateway-target"] == "up/first"
    (bill,) = receipt(answer)["billed_attempts"]
    assert (bill["target"], bill["usage"]["prompt_tokens"]) == ("up/second", 321)
    assert record["billed_attempts"] == [bill]


async def test_a_winner_that_is_cut_is_gone_on_with_where_that_is_asked_for(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = hedged(up, targets="[up/first, up/second, up/third], continue_on_cut: true").replace("openai-compatible", "vllm")
    async with warm(yaml, up, client) as gateway:
        on(up, "first", play(HANG))
        on(up, "second", sse(*WORDS, ending=FIN))
        answer = await ask(client, gateway, stream=True)
    assert events(answer.text)[-1] == "[DONE]"
    outcomes = [(one["target"], one["outcome"]) for one in receipt(answer)["attempts"]]
    assert outcomes[:2] == [("up/first", "lost"), ("up/second", "truncated")]
    assert outcomes[2][1] == "ok"
