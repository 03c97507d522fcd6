"""The cache of answers through the whole gateway: hits in every API, owners, limits, bills, failures and equal calls in flight."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.attempts.cached_attempt import STATEFUL_FIELDS
from gateway.cache.entry import Entry, write_entry
from gateway.store.cached_answers import MemoryAnswers
from gateway.store.responses import Bounds
from tests.faults.behaviours import canned, chat_chunk, completion, sse, status
from tests.faults.upstream_server import FIN, Exchange, FaultUpstream, play
from tests.flows.conftest import RECEIPT, chat, events, post_as, post_chat, receipt_of
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest
from tests.hooks.echo import echo
from tests.support.apis import ALL
from tests.support.redis import RedisServer
from tests.support.turns import sleep_in_turns

FIRST, SECOND, THIRD = (f"lg-{name}-0123456789abcdef" for name in ("first", "second", "third"))


def cached(up: FaultUpstream, cache: str = "10m", rest: str = "", model: str = "", provider: str = "") -> str:
    """Return a configuration with the model `m`, which has a cache and a price."""
    prices = "prices: { '*': { prompt: 1, output: 1 } }"
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", {prices}{provider} }}
models:
  m: {{ targets: up/mock, cache: {cache}{model} }}
{rest}"""


def keys(limits: str = "{}") -> str:
    """Return the sections `teams` and `keys`, with two keys of the team `search` and one of the team `other`."""
    owners = (("first", FIRST, "search"), ("second", SECOND, "search"), ("third", THIRD, "other"))
    entries = "".join(f"  {name}: {{ hash: '{digest(token)}', team: {team}, limits: {limits} }}\n" for name, token, team in owners)
    return f"teams: {{ search: {{}}, other: {{}} }}\nkeys:\n{entries}"


def cache_of(answer: httpx.Response) -> str:
    """Return the value of the response header about the cache, without the age."""
    return answer.headers["x-gateway-cache"].partition(";")[0]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_second_equal_call_of_every_api_gets_the_same_answer(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    for api in ALL:
        async with live(cached(up)) as gateway:
            more = {"stream_options": {"include_usage": True}} if stream else {}
            answers = [await post_as(api, client, gateway, stream=stream, headers=RECEIPT, **more) for _ in range(2)]
            first, second = (api.read(answer) for answer in answers)
            records = await gateway.records(2)
        assert [cache_of(answer) for answer in answers] == ["miss", "hit"], api.name
        assert second._replace(receipt=None) == first._replace(receipt=None), api.name
        assert second.text == "w0 w1 w2 w3 w4 ", api.name
        assert first.receipt is not None
        assert second.receipt is not None
        assert (first.receipt["cache"], first.receipt["cost_usd"] > 0) == ({"status": "miss"}, True), api.name
        assert second.receipt["cache"] == {"status": "hit", "age_s": 0}, api.name
        assert second.receipt["cost_usd"] == 0, api.name
        assert second.receipt["attempts"][0]["outcome"] == "cached", api.name
        assert [record["cache"] for record in records] == ["miss", "hit"]
        assert records[1]["cost_usd"] == 0
        assert [records[1][name] for name in ("prompt_tokens", "output_tokens")] == [first.tokens.prompt, first.tokens.output]  # type: ignore[union-attr]
        assert len(up.requests) == 1, api.name
        up.reset()


async def test_apis_and_formats_with_the_same_upstream_request_share_an_answer(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    chats = [api for api in ALL if api.name in ("chat", "messages", "responses")]
    async with live(cached(up)) as gateway:
        told = [api.read(await post_as(api, client, gateway, max_tokens=99)) for api in chats]
    assert {(each.text, each.tokens) for each in told} == {(told[0].text, told[0].tokens)}
    assert len(up.requests) <= len(chats)


async def test_embeddings_are_cached(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(cached(up)) as gateway:
        body = {"model": "m", "input": "one"}
        answers = [await client.post(gateway.base_url + "/embeddings", json=body) for _ in range(2)]
        other = await client.post(gateway.base_url + "/embeddings", json={**body, "input": "other"})
    assert [cache_of(answer) for answer in (*answers, other)] == ["miss", "hit", "miss"]
    assert answers[0].content == answers[1].content


async def test_native_answers_are_cached_unless_they_depend_on_state(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    native = {"id": "msg_1", "type": "message", "role": "assistant", "model": "mock", "content": [{"type": "text", "text": "hi"}],
              "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 2}}  # fmt: skip
    up.on("/v1/messages", canned(json.dumps(native).encode()))
    yaml = f"""
providers:
  up: {{ type: anthropic, base_url: "{up.origin}/v1", api_key: "${{UP_KEY}}" }}
models:
  m: {{ targets: up/claude, cache: 10m }}
"""
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    async with live(yaml, environ={"UP_KEY": "sk-up"}) as gateway:
        answers = [await client.post(gateway.url + "/v1/messages", json=body) for _ in range(2)]
        stateful = await client.post(gateway.url + "/v1/messages", json={**body, "container": "c1"})
    assert [cache_of(answer) for answer in (*answers, stateful)] == ["miss", "hit", "bypass"]
    assert answers[0].content == answers[1].content
    assert "container" in STATEFUL_FIELDS


async def test_a_response_that_is_stored_never_has_the_id_of_another_call(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    hooks = "hooks: [{ mask: {} }]\n"
    for kind in ("openai-compatible", "vllm"):
        up.on(lambda request: True, echo())
        async with live(cached(up, rest=hooks).replace("openai-compatible", kind)) as gateway:
            answers = []
            for name, stores in (("ada", True), ("bob", True), ("eve", False), ("eve", False)):
                body = {"model": "m", "input": f"mail {name}@example.org", "store": stores}
                answers.append(await client.post(gateway.base_url + "/responses", json=body))
            assert [cache_of(answer) for answer in answers] == ["bypass", "bypass", "miss", "hit"], kind
        assert len(up.requests) == 3
        up.reset()


async def test_headers_that_a_hook_sets_belong_to_the_request(up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "team_credential.py").write_text(
        "from gateway.hooks.api import Headers, Hook\n"
        "class OfKey(Hook):\n"
        "    def target(self, target):\n"
        "        return Headers({'authorization': 'Bearer of-' + target.call.team})\n"
    )
    sys.path.append(str(tmp_path))
    try:
        async with live(cached(up, "{ ttl: 10m, scope: global }", keys() + "hooks: [team_credential:OfKey]\n")) as gateway:
            answers = [await post_chat(client, gateway, headers=bearer(key)) for key in (FIRST, SECOND, THIRD)]
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("team_credential", None)
    assert [cache_of(answer) for answer in answers] == ["miss", "hit", "miss"]
    assert [request.header("authorization") for request in up.requests] == ["Bearer of-search", "Bearer of-other"]


@pytest.mark.parametrize(("scope", "expected"), [
    ("key", ["miss", "miss", "miss"]),
    ("team", ["miss", "hit", "miss"]),
    ("global", ["miss", "hit", "hit"]),
])  # fmt: skip
async def test_answers_are_shared_within_the_scope_only(
    up: FaultUpstream, client: httpx.AsyncClient, scope: str, expected: list[str]
) -> None:
    async with live(cached(up, f"{{ ttl: 10m, scope: {scope} }}", keys())) as gateway:
        first = [cache_of(await post_chat(client, gateway, headers=bearer(token))) for token in (FIRST, SECOND, THIRD)]
        again = [cache_of(await post_chat(client, gateway, headers=bearer(token))) for token in (FIRST, SECOND, THIRD)]
    assert first == expected
    assert again == ["hit"] * 3


async def test_two_tenants_with_the_same_prompts_never_get_each_others_answers(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    tokens = {FIRST: "first", THIRD: "third"}

    async def answer(exchange: Exchange) -> None:
        await canned(completion(f"answer {len(up.requests)}"))(exchange)

    up.on("/v1/chat/completions", answer)
    seen: dict[str, set[str]] = {token: set() for token in tokens}
    async with live(cached(up, rest=keys())) as gateway:

        async def ask(token: str, number: int) -> None:
            response = await post_chat(client, gateway, text=f"prompt {number % 20}", headers=bearer(token))
            assert response.status_code == 200, response.text
            seen[token].add(response.json()["choices"][0]["message"]["content"])

        await asyncio.gather(*(ask(token, number) for number in range(100) for token in tokens))
        assert gateway.count("lockgate_cache_lookups", "miss") == len(up.requests) == 40
    assert len(seen[FIRST]) == len(seen[THIRD]) == 20
    assert not seen[FIRST] & seen[THIRD]


DIFFERENT: tuple[dict[str, Any], ...] = (
    {"temperature": 0.5},
    {"temperature": 0.6},
    {"user": "u1"},
    {"max_tokens": 50},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]},
    {"seed": 1},
)  # fmt: skip


async def test_requests_that_differ_in_anything_are_sent(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(cached(up)) as gateway:
        for more in ({}, *DIFFERENT):
            for expected in ("miss", "hit"):
                body = {**chat(), **more}
                assert cache_of(await client.post(gateway.base_url + "/chat/completions", json=body)) == expected, more
    assert len(up.requests) == 1 + len(DIFFERENT)


async def test_several_samples_are_never_one_cached_answer(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    one_each = cached(up, provider=", api_key: '${UP_KEY}'").replace("openai-compatible", "groq")
    async with live(one_each, environ={"UP_KEY": "sk-up"}) as gateway:
        answers = [await post_chat(client, gateway, n=2) for _ in range(2)]
    assert [(cache_of(answer), len(answer.json()["choices"])) for answer in answers] == [("bypass", 2)] * 2
    assert len(up.requests) == 4


WHOLE = [chat_chunk("", role="assistant"), chat_chunk("text")]
NEVER_STORED = {
    "an output limit": canned(completion("cut").replace(b'"stop"', b'"length"')),
    "a content filter": canned(completion("").replace(b'"stop"', b'"content_filter"')),
    "no finish reason": canned(completion("x").replace(b'"stop"', b"null")),
}


@pytest.mark.parametrize("why", NEVER_STORED)
async def test_answers_that_were_cut_short_are_not_stored(up: FaultUpstream, client: httpx.AsyncClient, why: str) -> None:
    up.on("/v1/chat/completions", NEVER_STORED[why])
    async with live(cached(up)) as gateway:
        answers = [await post_chat(client, gateway) for _ in range(2)]
        assert [cache_of(answer) for answer in answers] == ["miss", "miss"]
        assert gateway.count("lockgate_cache_writes", "incomplete") == 2
    assert len(up.requests) == 2


async def test_errors_and_broken_streams_are_not_stored(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(cached(up)) as gateway:
        up.once(status(500))
        assert (await post_chat(client, gateway)).status_code >= 500
        up.once(sse(*WHOLE, ending=FIN))
        assert "error" in (await post_chat(client, gateway, stream=True)).text
        for stream in (False, True):
            answer = await post_chat(client, gateway, stream=stream)
            assert (answer.status_code, cache_of(answer)) == (200, "miss")
        assert gateway.count("lockgate_cache_writes", "stored") == 2


async def test_stream_that_the_gateway_ends_at_a_stop_string_is_not_stored(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    async with live(cached(up)) as gateway:
        for expected in ("miss", "hit"):  # an answer is stored whole, and cut at the stop string each time
            answer = await post_chat(client, gateway, stop=["w3"])
            assert cache_of(answer) == expected
            assert answer.json()["choices"][0]["message"]["content"] == "w0 w1 w2 "
        streams = [await post_chat(client, gateway, stop=["w2"], stream=True) for _ in range(2)]
    assert all("w3" not in stream.text for stream in streams)
    assert [cache_of(stream) for stream in streams] == ["miss", "miss"]


async def test_cache_control_of_the_caller_is_honoured(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(cached(up)) as gateway:

        async def ask(control: str | None = None) -> str:
            return cache_of(await post_chat(client, gateway, headers={"cache-control": control} if control else None))

        assert [await ask("no-store"), await ask()] == ["bypass", "miss"]
        assert [await ask("no-store"), await ask("no-cache"), await ask()] == ["bypass", "miss", "hit"]
        assert [await ask("max-age=3600"), await ask("no-transform, max-age=0")] == ["hit", "miss"]
    assert len(up.requests) == 5


async def test_answer_expires(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(cached(up, "200ms")) as gateway:
        assert cache_of(await post_chat(client, gateway)) == "miss"
        await asyncio.sleep(0.3)
        assert cache_of(await post_chat(client, gateway)) == "miss"


async def test_hit_is_charged_as_a_request_without_tokens_or_cost(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    limits = "{ requests: 10/h, tokens: 100000/h, spend: 1 USD/day }"
    async with live(cached(up, rest=keys(limits))) as gateway:
        for _ in range(3):
            answer = await post_chat(client, gateway, headers=bearer(FIRST), max_tokens=50)
            await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        usage = {each.limit.kind: each for each in await gateway.gateway.limit_usage(_limits(gateway))}
        assert answer.headers["x-ratelimit-remaining-requests"] == "7"
        (row,) = [counts for _, _, counts in gateway.gateway.ledger.counters.all_copies()]
    assert usage["requests"].used == 3
    assert usage["tokens"].used == 6
    assert (row.requests, row.prompt, row.output, row.cost) == (3, 3, 15, 6000)


def _limits(gateway: Live) -> list[Any]:
    key = gateway.gateway.generation.keys.authenticate([(b"authorization", b"Bearer " + FIRST.encode())], b"")
    assert key is not None
    return list(key.limits)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_equal_calls_in_flight_send_one_request(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.delay = 0.05
    async with live(cached(up)) as gateway:
        answers = await asyncio.gather(*(post_chat(client, gateway, stream=stream) for _ in range(20)))
        assert {answer.text for answer in answers} == {answers[0].text}
        assert sorted(cache_of(answer) for answer in answers) == ["hit"] * 19 + ["miss"]
        assert gateway.count("lockgate_cache_lookups", "joined") + gateway.count("lockgate_cache_lookups", "hit") == 19
        await eventually(lambda: all(each.in_flight == 0 for each in gateway.gateway.latencies.values()))
    assert len(up.requests) == 1
    assert not stream or events(answers[-1].text)[-1] == "[DONE]"


async def test_calls_that_wait_for_a_failed_one_send_their_own_requests(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async def fail(exchange: Exchange) -> None:
        await up.wait_for(lambda up: waiting.done(), 30)
        await status(400, "scripted")(exchange)

    up.once(fail)
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with live(cached(up)) as gateway:
        calls = [asyncio.ensure_future(post_chat(client, gateway)) for _ in range(5)]
        await eventually(lambda: gateway.gateway.metrics.in_flight == 5)
        await sleep_in_turns(0.05)
        waiting.set_result(None)
        answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [400]


async def test_call_continues_if_the_caller_of_the_request_it_waits_for_disconnects(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.once(play(60.0))
    async with live(cached(up)) as gateway:
        leader = asyncio.ensure_future(post_chat(client, gateway))
        await up.wait_for(lambda up: len(up.requests) == 1, 30)
        calls = [asyncio.ensure_future(post_chat(client, gateway)) for _ in range(5)]
        await eventually(lambda: gateway.gateway.metrics.in_flight == 6)
        await sleep_in_turns(0.05)
        leader.cancel()
        answers = await asyncio.gather(*calls)
        assert sorted(cache_of(answer) for answer in answers) == ["hit"] * 4 + ["miss"]
        await eventually(lambda: gateway.gateway.latencies["up/mock"].in_flight == 0)
    assert len(up.requests) == 2


async def test_slow_reader_does_not_delay_the_equal_calls_of_other_keys(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    rest = "callers: { write_stall: 10m }\ncache: { max_bytes: 1GiB, max_answer_bytes: 64MiB }\n" + keys()
    text = "#chunks=40000#"  # more than fits into the buffers of the connections
    async with live(cached(up, "{ ttl: 10m, scope: global }", rest)) as gateway:
        async with slow_reader(gateway, text, FIRST):
            await up.wait_for(lambda up: len(up.requests) == 1, 30)
            calls = [post_chat(client, gateway, text=text, stream=True, headers=bearer(SECOND)) for _ in range(3)]
            answers = await asyncio.gather(*calls)
            assert gateway.gateway.metrics.in_flight == 1  # the slow reader is still connected
            assert sorted(cache_of(answer) for answer in answers) == ["hit", "hit", "miss"]
            assert {events(answer.text)[-1] for answer in answers} == {"[DONE]"}
            first, second = (request.body for request in up.requests)
            assert first == second
            again = await post_chat(client, gateway, text=text, stream=True, headers=bearer(THIRD))
            assert cache_of(again) == "hit"
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        assert all(each.in_flight == 0 for each in gateway.gateway.latencies.values())


@asynccontextmanager
async def slow_reader(gateway: Live, text: str, key: str) -> AsyncIterator[None]:
    """Send a streaming call and read nothing of its answer within the block."""
    body = json.dumps(chat(text=text, stream=True), separators=(",", ":")).encode()  # as httpx writes it
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(sock, head.encode() + body)
        yield


async def test_caller_that_disconnects_while_it_waits_ends_nothing_else(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.delay = 0.2
    async with live(cached(up)) as gateway:
        first = asyncio.ensure_future(post_chat(client, gateway, stream=True))
        await up.wait_for(lambda up: len(up.requests) == 1, 30)
        second = asyncio.ensure_future(post_chat(client, gateway, stream=True))
        await eventually(lambda: gateway.gateway.metrics.in_flight == 2)
        await sleep_in_turns(0.05)
        second.cancel()
        assert cache_of(await first) == "miss"
        await eventually(lambda: gateway.gateway.latencies["up/mock"].in_flight == 0)
        assert cache_of(await post_chat(client, gateway, stream=True)) == "hit"


async def test_redis_shares_answers_between_gateways_and_counts_as_empty_while_it_is_unavailable(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml = cached(up, rest=f"store: {own_redis.url}\n")
    async with live(yaml) as one, live(yaml) as two:
        with monkeypatch.context() as patient:  # Redis may be slow on a busy machine
            for name in ("LOOKUP_TIMEOUT_S", "SAVE_TIMEOUT_S"):
                patient.setattr(f"gateway.cache.answers.{name}", 20.0)
            assert [cache_of(await post_chat(client, each)) for each in (one, two)] == ["miss", "hit"]
        own_redis.freeze()
        for number in range(4):
            answers = [await post_chat(client, each, text=f"hello {number % 2}") for each in (one, two)]
            await eventually(lambda: one.gateway.metrics.in_flight == two.gateway.metrics.in_flight == 0)
            assert [(answer.status_code, cache_of(answer)) for answer in answers] == [(200, "miss")] * 2
        assert one.count("lockgate_cache_writes", "unavailable") == two.count("lockgate_cache_writes", "unavailable") == 4
        own_redis.thaw()


async def test_answers_larger_than_the_maximum_are_not_stored(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(cached(up, rest="cache: { max_answer_bytes: 1000 }\n")) as gateway:
        for stream in (False, True):
            answers = [await post_chat(client, gateway, text="#chunks=200#", stream=stream) for _ in range(2)]
            assert [cache_of(answer) for answer in answers] == ["miss", "miss"]
        assert gateway.count("lockgate_cache_writes", "too_large") == 4


async def test_credentials_of_callers_bypass_the_cache(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    token = "lg-bring-0123456789abcdef"
    rest = f"keys:\n  bring: {{ hash: '{digest(token)}', bring_credentials: [up] }}\n"
    headers = {**bearer(token), "x-gateway-credential-up": "sk-own"}
    async with live(cached(up, "{ ttl: 10m, scope: global }", rest)) as gateway:
        assert [cache_of(await post_chat(client, gateway, headers=headers)) for _ in range(2)] == ["bypass"] * 2
        assert cache_of(await post_chat(client, gateway, headers=bearer(token))) == "miss"


async def test_hit_needs_no_slot_and_no_budget_of_the_target(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    provider = ", limits: { requests: 1/h }"
    async with live(cached(up, provider=provider)) as gateway:
        assert [cache_of(await post_chat(client, gateway)) for _ in range(3)] == ["miss", "hit", "hit"]
        assert (await post_chat(client, gateway, text="another")).status_code == 429


async def test_call_of_a_model_without_a_cache_has_no_information_about_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = cached(up) + "\n"
    yaml = yaml.replace("models:\n", "models:\n  plain: up/mock\n")
    async with live(yaml) as gateway:
        answers = [await post_chat(client, gateway, "plain", headers=RECEIPT) for _ in range(2)]
        assert all("x-gateway-cache" not in answer.headers and "cache" not in receipt_of(answer) for answer in answers)
        assert all("cache" not in line for line in await gateway.records(2))
    assert len(up.requests) == 2




COOLING = ", cooldown: { failures: 1, time: 10m, max: 10m }"


def two_targets(up: FaultUpstream, model: str = "") -> str:
    """Return a configuration with a route of two targets."""
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}"{COOLING} }}
  other: {{ type: openai-compatible, base_url: "{up.base_url}" }}
models:
  m: {{ targets: [up/mock, other/mock], cache: 10m, retries: 0{model} }}
"""


async def cool_down(up: FaultUpstream, client: httpx.AsyncClient, gateway: Live) -> None:
    """Start a cooldown of the target."""
    up.once(status(500))
    await post_chat(client, gateway, text="fails")
    assert gateway.gateway.health.is_live("up/mock") is False


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_cached_answers_are_used_during_a_cooldown(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with live(cached(up, provider=COOLING, model=", retries: 0")) as gateway:
        first = await post_chat(client, gateway, stream=stream)
        await cool_down(up, client, gateway)
        sent = len(up.requests)
        answer = await post_chat(client, gateway, stream=stream, headers=RECEIPT)
        assert (answer.status_code, cache_of(answer)) == (200, "hit")
        if stream:
            assert events(answer.text)[-1] == "[DONE]"
        else:
            assert answer.json()["choices"] == first.json()["choices"]
            (attempt,) = receipt_of(answer)["attempts"]
            assert (attempt["target"], attempt["outcome"]) == ("up/mock", "cached")
        assert len(up.requests) == sent
        assert gateway.gateway.health.is_live("up/mock") is False
        assert gateway.count("lockgate_cache_lookups", "hit") == 1
        for headers in ({"cache-control": "no-cache"}, {"cache-control": "no-store"}):
            assert "hit" not in (await post_chat(client, gateway, stream=stream, headers=headers)).headers.get("x-gateway-cache", "")
        assert gateway.gateway.latencies["up/mock"].in_flight == 0


async def test_the_next_target_answers_if_the_target_in_cooldown_has_no_cached_answer(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(two_targets(up)) as gateway:
        assert (await post_chat(client, gateway, text="known")).headers["x-gateway-target"] == "up/mock"
        await cool_down(up, client, gateway)
        for text, target, cache in (("new", "other/mock", "miss"), ("known", "up/mock", "hit"), ("new", "other/mock", "hit")):
            answer = await post_chat(client, gateway, text=text, headers=RECEIPT)
            assert (answer.headers["x-gateway-target"], cache_of(answer)) == (target, cache)
            assert [each["target"] for each in receipt_of(answer)["attempts"]] == [target]


async def test_an_answer_of_another_owner_is_not_used_during_a_cooldown(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(cached(up, rest=keys(), provider=COOLING, model=", retries: 0")) as gateway:
        assert cache_of(await post_chat(client, gateway, headers=bearer(FIRST))) == "miss"
        up.once(status(500))
        await post_chat(client, gateway, text="fails", headers=bearer(FIRST))
        assert gateway.gateway.health.is_live("up/mock") is False
        assert cache_of(await post_chat(client, gateway, headers=bearer(FIRST))) == "hit"
        answer = await post_chat(client, gateway, headers=bearer(SECOND))
        assert "hit" not in answer.headers.get("x-gateway-cache", "")


async def test_a_damaged_answer_is_deleted_during_a_cooldown(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(cached(up, provider=COOLING, model=", retries: 0")) as gateway:
        await post_chat(client, gateway)
        store = gateway.gateway.shared.cache._store
        assert isinstance(store, MemoryAnswers)
        ((owner, id),) = store._records
        await store.save(owner, id, write_entry(Entry(time.time(), b"application/json", b"{")), Bounds(600, 1 << 20))
        await cool_down(up, client, gateway)
        sent = len(up.requests)
        answer = await post_chat(client, gateway)
        assert (answer.status_code, cache_of(answer), len(up.requests)) == (200, "miss", sent + 1)
        assert cache_of(await post_chat(client, gateway)) == "hit"


async def test_a_fitted_conversation_has_no_cached_answer_during_a_cooldown(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(two_targets(up, ", context: { policy: oldest-first }")) as gateway:
        assert [cache_of(await post_chat(client, gateway)) for _ in range(2)] == ["miss", "hit"]
        await cool_down(up, client, gateway)
        answer = await post_chat(client, gateway)
        assert (answer.headers["x-gateway-target"], cache_of(answer)) == ("other/mock", "miss")
