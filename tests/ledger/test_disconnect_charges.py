"""Charges for calls whose caller disconnects: nothing, the prompt or the full answer, depending on what the provider bills."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from gateway.tokens.estimate import estimate_part
from tests.faults.behaviours import FIN, HANG, RST, Step, play
from tests.faults.upstream_server import FaultUpstream, Script
from tests.flows.live import Live, eventually, live
from tests.ledger.conftest import ENVIRON, call, usage, yaml
from tests.support.each import each
from tests.support.turns import sleep_in_turns


async def leave(client: httpx.AsyncClient, gateway: Live, up: FaultUpstream, *, stream: bool, after: float = 0.15) -> None:
    """Disconnect once the upstream has received the call (and, if it streams, has sent something)."""
    if not stream:
        asking = asyncio.create_task(call(client, gateway))
        await up.wait_for(lambda up: len(up.requests) == 1)
        await sleep_in_turns(after)  # so that the gateway detects the disconnect
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    else:
        body = {"model": "m", "messages": [{"role": "user", "content": "one two"}], "stream": True}
        async with client.stream("POST", gateway.base_url + "/chat/completions", json=body) as answer:
            async for piece in answer.aiter_bytes():
                if b"w0" in piece:
                    break
    await eventually(lambda: gateway.gateway.metrics.in_flight == 0, 20)


PROVIDERS = [
    ("openai", "", True, 10_000),
    ("openai-compatible", "", True, 10_000),
    ("anthropic", "", True, 10_000),
    ("mistral", "bills_aborted_prompt: true, ", True, 10_000),
    ("mistral", "bills_aborted_prompt: false, ", False, 0),
    ("vllm", "", True, 0),
    ("ollama", "", True, 0),
    ("llamacpp", "", True, 0),
    ("vllm", "bills_aborted_prompt: true, ", True, 10_000),
    ("vllm", "bills_aborted_prompt: false, ", False, 0),
]
"""Type, setting, whether the tokens of the prompt are booked, and the charge for each of them in nano-dollars."""


async def test_a_prompt_without_an_answer_is_charged_as_the_provider_bills_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, play(HANG))
    (base,) = (line for line in yaml(up).splitlines() if line.startswith("  up:"))
    blocks = [
        base.replace("up:", f"p{at}:").replace("openai-compatible", kind).replace("prices: ", f"{setting}prices: ")
        for at, (kind, setting, *_) in enumerate(PROVIDERS)
    ]
    models = [f"  m{at}: p{at}/mock" for at in range(len(PROVIDERS))]
    config = "\n".join(["journal: off", "providers:", *blocks, "models:", *models])
    async with live(config, environ=ENVIRON) as gateway:
        bodies = [{"model": f"m{at}", "messages": [{"role": "user", "content": "one two"}]} for at in range(len(PROVIDERS))]
        asking = [asyncio.create_task(client.post(gateway.base_url + "/chat/completions", json=body)) for body in bodies]
        await up.wait_for(lambda up: len(up.requests) == len(PROVIDERS))
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0, 20)
        rows = {row["target"]: row for row in (await usage(client, gateway, by="target"))["rows"]}
    for at, (*setting, is_counted, cost_each) in enumerate(PROVIDERS):
        found = rows[f"p{at}/mock"]
        assert (found["requests"], found["output_tokens"], found["unpriced"]) == (1, 0, 0), setting
        assert (found["prompt_tokens"] > 0) is is_counted, setting
        assert found["cost_nanodollars"] == found["prompt_tokens"] * cost_each, setting
        assert found["estimated"] == int(is_counted), setting


async def test_calls_whose_caller_disconnects_before_the_first_byte_are_not_free(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", play(HANG))
    async with live(yaml(up), environ=ENVIRON) as gateway:
        asking = [asyncio.create_task(call(client, gateway)) for _ in range(60)]
        await up.wait_for(lambda up: len(up.requests) == 60)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0, 20)
        found = (await usage(client, gateway))["total"]
        records = await gateway.records(60)
    assert (found["requests"], found["estimated"], found["output_tokens"]) == (60, 60, 0)
    assert found["prompt_tokens"] >= 60
    assert found["cost_nanodollars"] == found["prompt_tokens"] * 10_000
    assert sum(round(record["cost_usd"] * 10**9) for record in records) == found["cost_nanodollars"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_of_a_provider_that_bills_in_full_is_read_to_the_end(
    up: FaultUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    up.chunks, up.delay = 30, 0.02
    async with live(yaml(up).replace("prices: ", "drain: true, prices: "), environ=ENVIRON) as gateway:
        await leave(client, gateway, up, stream=stream)
        found = (await usage(client, gateway))["total"]
        (record,) = await gateway.records(1)
    assert up.requests[0].finished
    assert record["status"] == 499
    assert (found["requests"], found["prompt_tokens"], found["output_tokens"], found["estimated"]) == (1, 2, 30, 0)


WORDS = "wort " * 40


def part(ending: Step) -> Script:
    """Return a script that sends the beginning of a JSON answer, with 200 bytes of text and without usage."""
    begun = (
        b'{"id":"x","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":{"role":"assistant","content":"'
    )
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(begun) + 5000}\r\n\r\n".encode()
    return play(head + begun + WORDS.encode(), 0.2, ending)


@pytest.mark.parametrize("transport", ["native", "httpx"])
@pytest.mark.parametrize("ending", [FIN, RST, "left", "stalled"])
async def test_an_incomplete_json_answer_is_charged_for_what_arrived(
    up: FaultUpstream, client: httpx.AsyncClient, ending: Step | str, transport: str
) -> None:
    """Charged like a stream: the prompt and the received output, flagged as estimated."""
    up.on("/v1/chat/completions", part(60.0 if isinstance(ending, str) else ending))
    more = f"transport: {transport}, " + ("idle_timeout: 500ms, " if ending == "stalled" else "")
    async with live(yaml(up).replace("prices: ", f"{more}prices: "), environ=ENVIRON) as gateway:
        if ending == "left":
            await leave(client, gateway, up, stream=False, after=0.4)
        else:
            answer = await call(client, gateway)
            assert answer.status_code in (502, 504)
            assert "wort" not in answer.text
        found = (await usage(client, gateway))["total"]
    assert (found["requests"], found["output_tokens"]) == (1, len(WORDS) // 4)
    assert 1 < found["prompt_tokens"] < 100
    assert found["cost_nanodollars"] == found["prompt_tokens"] * 10_000 + found["output_tokens"] * 100_000
    assert found["estimated"] == 1


@each(
    ("body", "tokens"),
    [
        (b"", 0),
        (b"   \n\n", 0),
        (b'{"choices":[{"message":{"role":"assistant","content":null,"tool_c', 0),
        (b'{"choices":[{"message":{"role":"assistant","content":"', 0),
        (b'{"choices":[{"message":{"content":"abcd\\"efgh","refusal":null},"logprobs":{"content":[{"token":"abcd","bytes":[97]}', 3),
        (b'{"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":"{\\"a\\":1', 2),
        (b'{"type":"message","content":[{"type":"text","text":"' + b"x" * 4000, 1000),
        (b'{"candidates":[{"content":{"parts":[{"text":"abcd"},{"text":"efgh"', 2),
        (b'"content":"' + b"\\" * (64 << 20), 1 << 20),
    ],
    ids=range(9),
)
def test_output_of_an_incomplete_answer_is_estimated_from_its_texts(body: bytes, tokens: int) -> None:
    assert abs(estimate_part(body) - tokens) <= 10


async def test_other_providers_are_closed_at_once_and_charged_for_what_arrived(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks, up.delay = 2000, 0.01
    async with live(yaml(up), environ=ENVIRON) as gateway:
        await leave(client, gateway, up, stream=True)
        found = (await usage(client, gateway))["total"]
    assert not up.requests[0].finished
    assert 0 < found["output_tokens"] <= up.requests[0].tokens < 2000
    assert found["estimated"] == 1
