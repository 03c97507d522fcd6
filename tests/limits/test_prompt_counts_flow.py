"""Limits and bills use the provider's counts: images by their pixels, and texts of any length by their tokens."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any

import httpx
import pytest
import toktok

from gateway.tokens.counter import MAX_INLINE_BYTES, SHARED_COUNTER
from gateway.tokens.pieces import SlowTextError
from gateway.tokens.quick_count import QuickCount
from gateway.tokens.tokenizer import Tokenizer
from tests.faults.upstream_server import FaultUpstream, canned
from tests.flows.live import Live, eventually, live
from tests.support.pictures import image_part

TOKEN = "sk-gw-counts"
EXACT = Tokenizer("o200k_base", exact=True)
WORDS = [
    *("the", "gateway", "counts", "every", "token", "of", "a", "long", "report", "about", "rivers", "mountains", "weather"),
    *("traffic", "budgets", "contracts", "engines", "harvests", "bridges", "schools", "markets", "letters", "gardens"),
    *("museums", "theatres", "harbours", "and", "their", "many", "visitors"),
]


def english(characters: int) -> str:
    """Return varied English words."""
    words = (f"{WORDS[(7 * at + at // 31) % len(WORDS)]}{'.' if at % 17 == 16 else ''}" for at in range(characters // 4))
    return " ".join(words)[:characters]


def yaml(base_url: str, limits: str = "") -> str:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    key = f'keys: {{ k: {{ hash: "sha256:{digest}"' + (f", limits: {{ {limits} }}" if limits else "") + " } }"
    return f"""
providers: {{ up: {{ type: openai, base_url: "{base_url}", api_key: "${{K}}" }} }}
models: {{ m: up/gpt-4o }}
{key}
"""


def serving(up: FaultUpstream, limits: str = "") -> Any:
    return live(yaml(up.base_url, limits), environ={"K": "sk-upstream"})


def chat(content: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], "max_tokens": 100}


async def ask(client: httpx.AsyncClient, gateway: Live, content: Any, receipt: bool = False, **more: Any) -> httpx.Response:
    body = {**chat(content), **more}
    headers = {"authorization": f"Bearer {TOKEN}", **({"x-gateway-receipt": "body"} if receipt else {})}
    return await client.post(gateway.base_url + "/chat/completions", json=body, headers=headers)


def photo(width: int, height: int, size: int) -> list[dict[str, object]]:
    return [{"type": "text", "text": "What is this?"}, image_part(width, height, size)]


async def stop_early(client: httpx.AsyncClient, gateway: Live, content: Any) -> None:
    """Read the first words of a stream, then disconnect."""
    body = {**chat(content), "stream": True}
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with client.stream("POST", gateway.base_url + "/chat/completions", json=body, headers=headers) as answer:
        async for piece in answer.aiter_bytes():
            if b"w0" in piece:
                break
    await eventually(lambda: gateway.gateway.metrics.in_flight == 0, 20)


async def total(client: httpx.AsyncClient, gateway: Live) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(gateway.admin_url + "/admin/usage")).json()["total"]
    return found


async def test_a_photo_takes_its_tiles_from_a_token_limit(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, "tokens: 200k/min") as gateway:
        answer = await ask(client, gateway, photo(4032, 3024, 310_000))
    assert answer.status_code == 200
    assert 200_000 - 1_000 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 200_000 - 765


async def test_three_photos_at_once_fit_a_token_limit(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.delay = 0.01
    async with serving(up, "tokens: 200k/min") as gateway:
        answers = await asyncio.gather(*(ask(client, gateway, photo(3000, 1200, 200_000)) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3


async def test_a_photo_takes_its_tiles_from_a_budget(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, "spend: 1 USD/day") as gateway:
        assert (await ask(client, gateway, photo(3000, 1200, 750_000))).status_code == 200


async def test_a_long_english_text_takes_its_tokens_from_a_limit(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    text = english(410_000)
    async with serving(up, "tokens: 200k/min") as gateway:
        tokens = SHARED_COUNTER.count_texts([text], EXACT)[0]
        answer = await ask(client, gateway, text)
    assert answer.status_code == 200
    assert 60_000 < tokens < 110_000
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) == 200_000 - tokens - 7 - 100


async def test_only_short_texts_are_counted_on_the_event_loop(
    up: FaultUpstream, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    async with serving(up, "tokens: 2M/min") as gateway:
        count = SHARED_COUNTER._quick["o200k_base"]

        def recorded(texts: list[str]) -> list[int]:
            sizes.append(sum(len(text.encode()) for text in texts))
            return count(texts)

        monkeypatch.setitem(SHARED_COUNTER._quick, "o200k_base", recorded)
        for length in (100, 10_000, MAX_INLINE_BYTES + 1, 90_000, 410_000):
            assert (await ask(client, gateway, english(length) + str(length))).status_code == 200
    assert max(sizes) <= MAX_INLINE_BYTES
    assert len(sizes) == 2


async def test_a_short_text_of_many_unknown_words_takes_its_tokens_from_a_limit(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    """The tokenizer process counts it."""
    text = " ".join("".join(random.Random(at).choices("bcdfghjklm", k=9)) for at in range(900))
    with pytest.raises(SlowTextError):
        QuickCount("o200k_base")([text])
    async with serving(up, "tokens: 200k/min") as gateway:
        answer = await ask(client, gateway, text)
        tokenized = await client.post(
            gateway.url + "/tokenize", json={"model": "m", "prompt": text}, headers={"authorization": f"Bearer {TOKEN}"}
        )
    tokens = toktok.batch_count([text], "o200k_base")[0]
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) == 200_000 - tokens - 7 - 100
    assert tokenized.json()["count"] == tokens


@pytest.mark.parametrize("limited", [True, False])
async def test_a_stopped_stream_with_an_image_is_booked_by_its_tiles(
    up: FaultUpstream, client: httpx.AsyncClient, limited: bool
) -> None:
    up.chunks, up.delay = 200, 0.01
    async with serving(up, "spend: 2 USD/day" if limited else "") as gateway:
        for _ in range(5):
            await stop_early(client, gateway, photo(3000, 1200, 500_000))
        found = await total(client, gateway)
        assert (await ask(client, gateway, "Still there?")).status_code == 200
    assert found["estimated"] == 5
    assert 5 * 1_445 < found["prompt_tokens"] < 5 * 1_480
    assert 5 * 0.0036 < found["cost_usd"] < 5 * 0.0045


async def test_a_stopped_stream_with_a_long_text_is_booked_by_its_tokens(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks, up.delay = 200, 0.01
    text = english(60_000)
    async with serving(up, "tokens: 200k/min") as gateway:
        await stop_early(client, gateway, text)
        found = await total(client, gateway)
        tokens = SHARED_COUNTER.count_texts([text], EXACT)[0]
    assert found["prompt_tokens"] == tokens + 7


async def test_a_long_answer_without_usage_is_booked_by_the_tokens_of_its_prompt(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    """The prompt is counted after the call, because no limit has needed the count."""
    up.usage = False
    text = english(60_000)
    async with serving(up) as gateway:
        answers = [await ask(client, gateway, text, stream=stream) for stream in (False, True)]
        told = await ask(client, gateway, text, receipt=True)
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0, 20)
        found = await total(client, gateway)
    assert [answer.status_code for answer in (*answers, told)] == [200] * 3
    expected = SHARED_COUNTER.count_texts([text], EXACT)[0] + 7
    assert found["prompt_tokens"] == 3 * expected
    assert told.json()["gateway"]["cost_usd"] * 1e6 >= expected * 2.5


@pytest.mark.parametrize(("content", "target"), [("What is this?", "up/gpt-4o-mini"), (photo(3000, 1200, 90_000), "up/gpt-4o")])
async def test_routing_by_cost_counts_images_as_each_target_does(
    up: FaultUpstream, client: httpx.AsyncClient, content: Any, target: str
) -> None:
    """gpt-4o-mini counts 33 times as many tokens for an image, so it is cheaper only for text."""
    text = yaml(up.base_url).replace("m: up/gpt-4o", "m: { targets: { up/gpt-4o: 1, up/gpt-4o-mini: 1 }, balance: cost }")
    async with live(text, environ={"K": "sk-upstream"}) as gateway:
        answer = await ask(client, gateway, content)
        plan = (await client.post(gateway.admin_url + "/admin/route", json={"model": "m", "n": 5, "body": chat(content)})).json()
    assert answer.headers["x-gateway-target"] == target
    assert plan["first"] == {target: 5}


async def test_count_endpoints_count_images_by_their_pixels(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    image = {"type": "input_image", "image_url": photo(3000, 1200, 90_000)[1]["image_url"]["url"]}  # type: ignore[index]
    request = {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, image]}]}
    async with serving(up) as gateway:
        headers = {"authorization": f"Bearer {TOKEN}"}
        up.on("/v1/responses/input_tokens", canned(b"{}", 404))
        answer = await client.post(gateway.base_url + "/responses/input_tokens", json=request, headers=headers)
        tokenized = await client.post(gateway.url + "/tokenize", json=chat(photo(3000, 1200, 90_000)), headers=headers)
    assert answer.json()["input_tokens"] == tokenized.json()["count"] == 1_445 + 4 + 7


async def test_an_encoding_that_no_limit_needs_is_not_loaded_into_the_gateway(
    up: FaultUpstream, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading the encoding would block the event loop for half a second."""
    monkeypatch.setattr(SHARED_COUNTER, "_usable", {})
    monkeypatch.setattr(SHARED_COUNTER, "_quick", {})
    async with serving(up) as gateway:
        headers = {"authorization": f"Bearer {TOKEN}"}
        text = await client.post(gateway.url + "/tokenize", json={"model": "m", "prompt": "Hello, world!"}, headers=headers)
        messages = await client.post(gateway.url + "/tokenize", json=chat("Hello, world!"), headers=headers)
        ids = {"model": "m", "tokens": text.json()["tokens"]}
        again = await client.post(gateway.url + "/detokenize", json=ids, headers=headers)
    assert (text.json()["count"], messages.json()["count"], again.json()["prompt"]) == (4, 4 + 7, "Hello, world!")
    assert SHARED_COUNTER._usable == SHARED_COUNTER._quick == {}


async def test_a_request_that_only_the_vendor_understands_is_counted_by_its_contents(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    image = {"type": "input_image", "image_url": photo(3000, 1200, 900_000)[1]["image_url"]["url"]}  # type: ignore[index]
    content = [{"type": "input_text", "text": "What is this?"}, image]
    request = {"model": "m", "input": [{"role": "user", "content": content}], "tools": [{"type": "web_search"}], "max_output_tokens": 100}
    async with serving(up, "tokens: 200k/min") as gateway:
        answer = await client.post(gateway.base_url + "/responses", json=request, headers={"authorization": f"Bearer {TOKEN}"})
    assert up.requests[0].path == "/v1/responses"
    assert 200_000 - 1_800 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 200_000 - 1_545


async def test_a_refusal_that_is_due_to_calls_in_flight_says_so(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks, up.delay = 400, 0.05
    async with serving(up, "tokens: 10k/min") as gateway:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 6_000}
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with client.stream("POST", gateway.base_url + "/chat/completions", json=body, headers=headers) as answer:
            await anext(answer.aiter_bytes())
            refused = await ask(client, gateway, "hi", max_tokens=6_000)
            too_large = await ask(client, gateway, "hi", max_tokens=10_001)
        up.delay = 0
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0, 20)
        assert (await ask(client, gateway, "hi", max_tokens=6_000)).status_code == 200
    assert refused.status_code == too_large.status_code == 429
    assert int(refused.headers["retry-after"]) <= 2
    assert "reserved by calls in flight" in refused.json()["error"]["message"]
    assert refused.json()["error"]["type"] == "tokens"
    assert "retry-after" not in too_large.headers
    assert "alone exceeds" in too_large.json()["error"]["message"]
