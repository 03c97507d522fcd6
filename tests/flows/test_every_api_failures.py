"""Fallback, hedging, continued streams, abandoned calls, drain, context fitting, deadlines and receipts, in every API."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from benchmarks.ports import free_port
from tests.faults.behaviours import broken_by, chat_chunk, sse
from tests.faults.upstream_server import FIN, HANG, FaultUpstream, play
from tests.flows.conftest import CREDENTIAL, RECEIPT, chat, one_model, post_as, serving
from tests.flows.live import Live, eventually, live
from tests.flows.test_hedge_flow import hedged, warm
from tests.support.apis import ALL_CONVERSATIONS, ALL_WAYS, Api, Told
from tests.support.turns import sleep_in_turns

ENVIRON = {"UP_KEY": CREDENTIAL}
WORDS = "w0 w1 w2 w3 w4 "


async def ask(client: httpx.AsyncClient, gateway: Live, api: Api, **more: Any) -> tuple[httpx.Response, Told]:
    """Send one call. Return the response, and the answer that its caller reads."""
    if more.get("stream"):
        more["stream_options"] = {"include_usage": True}
    answer = await post_as(api, client, gateway, headers={**RECEIPT, **more.pop("headers", {})}, **more)
    return answer, api.read(answer)


def two_targets(up: FaultUpstream, settings: str = "", kind: str = "vllm") -> str:
    """Return a configuration whose model has two targets."""
    provider = f'{{ type: {kind}, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
    return f"providers: {{ a: {provider}, b: {provider} }}\nmodels: {{ m: {{ targets: [a/x, b/y]{settings} }} }}\n"


async def test_the_next_target_answers_in_every_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    down = f'{{ type: openai, base_url: "http://127.0.0.1:{free_port()}/v1", api_key: "${{UP_KEY}}" }}'
    working = f'{{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
    yaml = f"providers: {{ down: {down}, up: {working} }}\nmodels: {{ m: [down/a, up/mock] }}\n"
    seen = []
    async with live(yaml, environ=ENVIRON) as gateway:
        for api, stream in ALL_WAYS:
            answer, told = await ask(client, gateway, api, stream=stream)
            assert (answer.status_code, told.text, told.stop) == (200, WORDS, "stop"), api.name
            assert answer.headers["x-gateway-target"] == "up/mock"
            assert told.receipt is not None
            seen.append(told.tokens)
    assert seen == [(1, 5, 0, 0, 0)] * len(ALL_WAYS)


async def test_a_slow_target_is_hedged_in_every_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with warm(hedged(up), up, client, calls=80) as gateway:
        up.on(lambda request: request.model == "first", play(HANG))
        for api in ALL_CONVERSATIONS:
            answer, told = await ask(client, gateway, api, stream=True)
            assert (told.text, told.stop, told.error) == (WORDS, "stop", None), api.name
            assert answer.headers["x-gateway-target"] == "up/second", api.name


async def test_a_broken_stream_is_continued_in_every_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 1}}
    usage = {**chat_chunk(), "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, **details}}
    seen: list[Any] = []
    prompts: list[int] = []
    async with live(two_targets(up, ", continue_on_cut: true"), environ=ENVIRON) as gateway:
        for api in ALL_CONVERSATIONS:
            up.once(sse(chat_chunk("one ", role="assistant"), chat_chunk("two "), ending=FIN))
            up.once(sse(chat_chunk("three"), chat_chunk(finish="stop"), usage, b"[DONE]"))
            _, told = await ask(client, gateway, api, stream=True)
            assert (told.text, told.stop, told.error) == ("one two three", "stop", None), api.name
            assert told.receipt is not None
            outcomes = [each["outcome"] for each in told.receipt["attempts"]]
            assert told.tokens is not None
            prompts.append(told.tokens.prompt)
            seen.append((told.tokens[1:], outcomes, len(told.receipt["continued"])))
    assert seen == [seen[0]] * len(ALL_CONVERSATIONS), seen
    assert seen[0][0] == (4, 4, 3, 1)
    assert max(prompts) - min(prompts) < 15, "the prompt of the broken part is estimated by its size"


async def test_a_broken_stream_ends_with_the_same_error_in_every_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", broken_by())
    seen = []
    async with serving(up) as gateway:
        for api in ALL_CONVERSATIONS:
            answer, told = await ask(client, gateway, api, stream=True)
            assert (answer.status_code, told.text, told.stop) == (200, "one two ", None), api.name
            assert told.error is not None
            assert told.receipt is not None
            seen.append((told.error["code"], told.receipt["attempts"][0]["outcome"]))
    assert seen == [seen[0]] * len(ALL_CONVERSATIONS), seen


async def test_an_abandoned_call_ends_its_upstream_request_in_every_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    script = sse(chat_chunk("one ", role="assistant"), chat_chunk("two "), ending=HANG)
    async with serving(up) as gateway:
        for number, (api, stream) in enumerate(ALL_WAYS):
            up.once(script if stream else play(HANG))
            body = api.body(chat(stream=stream))
            if stream:
                async with client.stream("POST", gateway.url + api.path, json=body) as answer:
                    async for piece in answer.aiter_bytes():
                        if b"two " in piece:
                            break
            else:
                waiting = asyncio.create_task(client.post(gateway.url + api.path, json=body))
                await up.wait_for(lambda up, count=number: len(up.requests) > count)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            await up.wait_for(lambda up: up.requests[-1].left is not None or up.requests[-1].link.closed is not None)
        records = await gateway.records(len(ALL_WAYS))
    for (api, stream), record in zip(ALL_WAYS, records, strict=True):
        assert record["aborted"] == ("mid" if stream else "pre"), api.name
        assert record.get("output_tokens") == (2 if stream else None), api.name


async def test_streams_end_with_the_same_error_at_a_shutdown(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", sse(chat_chunk("one ", role="assistant"), ending=HANG))
    async with serving(up) as gateway:
        running = [asyncio.create_task(ask(client, gateway, api, stream=True)) for api in ALL_CONVERSATIONS]
        await up.wait_for(lambda up: len(up.requests) == len(ALL_CONVERSATIONS))
        await eventually(lambda: gateway.gateway.metrics.in_flight == len(ALL_CONVERSATIONS))
        await sleep_in_turns(0.1)
    for api, task in zip(ALL_CONVERSATIONS, running, strict=True):
        _, told = await task
        assert told.error is not None
        assert (told.text, told.error["code"]) == ("one ", "server_shutting_down"), api.name


async def test_conversations_are_fitted_in_every_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    turns = [{"role": role, "content": f"{role} {turn} " + "word " * 300} for turn in range(4) for role in ("user", "assistant")]
    messages = [{"role": "system", "content": "Be brief."}, *turns, {"role": "user", "content": "last"}]
    model = "m: {{ targets: [up/mock], context: {{ overflow: {}, window: 1000 }} }}"
    sent, evicted = [], []
    async with live(one_model(up).replace("m: up/mock", model.format("truncate")), environ=ENVIRON) as gateway:
        for api, stream in ALL_WAYS:
            answer, told = await ask(client, gateway, api, stream=stream, messages=messages, max_tokens=50)
            assert answer.status_code == 200, answer.text
            sent.append(up.requests[-1].json["messages"])
            assert told.receipt is not None
            first = told.receipt["context"]["evicted"]
            has_system = api.name in ("chat", "cohere")  # their messages include the system's
            evicted.append([at - 1 for at in first] if has_system else first)
            more = {"messages": messages, "max_tokens": 50, "headers": {"x-gateway-strict": "true"}}
            strict, refused = await ask(client, gateway, api, stream=stream, **more)
            assert (strict.status_code, refused.error is None) == (400, False), api.name
    assert sent == [sent[0]] * len(ALL_WAYS)
    assert [message["content"] for message in sent[0]][::len(sent[0]) - 1] == ["Be brief.", "last"]
    assert evicted[0]
    assert evicted == [evicted[0]] * len(ALL_WAYS)
    requests = len(up.requests)
    async with live(one_model(up).replace("m: up/mock", model.format("error")), environ=ENVIRON) as gateway:
        for api, stream in ALL_WAYS:
            answer, told = await ask(client, gateway, api, stream=stream, messages=messages, max_tokens=50)
            assert told.error is not None
            assert (answer.status_code, told.error["code"]) == (400, "context_length_exceeded"), api.name
            assert told.error["param"] == ("input" if api.name == "responses" else "messages"), api.name
    assert len(up.requests) == requests


async def test_deadlines_of_the_target_and_of_the_caller_hold_in_every_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    stalled = sse(chat_chunk("one ", role="assistant"), ending=HANG)
    names = [f"m{number}" for number in range(len(ALL_WAYS))]  # each has a target of its own, because timeouts lead to cooldowns
    yaml = one_model(up).replace("api_key:", "first_byte_timeout: 150ms, idle_timeout: 150ms, api_key:")
    async with live(yaml + "".join(f"  {name}: up/{name}\n" for name in names), environ=ENVIRON) as gateway:
        silent, cut, own = [], [], []
        for name, (api, stream) in zip(names, ALL_WAYS, strict=True):
            up.on("/v1/chat/completions", play(HANG))
            answer, told = await ask(client, gateway, api, model=name, stream=stream)
            assert told.error is not None
            silent.append((answer.status_code, told.error["code"]))
            answer, told = await ask(client, gateway, api, model=name, stream=stream, timeout_microseconds=50_000)
            assert told.error is not None
            own.append((answer.status_code, told.error["code"]))
            if stream:
                up.on("/v1/chat/completions", stalled)
                answer, told = await ask(client, gateway, api, model=name, stream=stream)
                assert told.error is not None
                cut.append((answer.status_code, told.text, told.error["code"]))
    assert silent == own == [(504, "upstream_timeout")] * len(ALL_WAYS)
    assert cut == [(200, "one ", "upstream_stalled")] * len(ALL_CONVERSATIONS)


async def test_receipts_are_the_same_in_every_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = one_model(up, kind="siati").replace("api_key:", "prices: { mock: { prompt: 10, output: 100 } }, api_key:")
    seen = []
    async with live(yaml, environ=ENVIRON) as gateway:
        for api, stream in ALL_WAYS:
            answer, told = await ask(client, gateway, api, stream=stream, max_tokens=9, user="u", reasoning_effort="low")
            assert told.receipt is not None
            receipt = told.receipt
            names = {api.param(name) for name in ("user", "reasoning_effort", "max_tokens", "stop")}
            assert receipt["request_id"] == answer.headers["x-request-id"]
            listed = [each for each in receipt["adjustments"] if each["param"] in names and each["action"] != "rename"]
            told_of = sorted(each["action"] for each in listed)  # the cap has another name in each API
            seen.append((receipt["model"], receipt["target"], receipt["cost_usd"], receipt["usage_source"], told.tokens, told_of))
            shown = answer.headers.get("x-gateway-adjusted", "")
            assert all(each["param"] in shown for each in listed), shown
    assert seen == [seen[0]] * len(ALL_WAYS), seen
    assert len(seen[0][5]) >= 2
