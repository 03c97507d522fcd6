"""Streams with hooks over HTTP that break off, have unusual events, or answer a request with the gateway's own keys."""

from __future__ import annotations

import asyncio
import json

import httpx

from gateway.hooks.events import slots_of
from tests.faults.behaviours import chat_chunk, play, sse
from tests.faults.upstream_server import FIN, RST, Exchange, FaultUpstream, Script
from tests.flows.conftest import CREDENTIAL, chat, post_as, serving
from tests.flows.live import live
from tests.flows.test_hooked_passthrough import DENY, EMAIL, MASK
from tests.flows.test_hooked_passthrough import serving as serving_path
from tests.hooks.echo import answers_of, chunk, message_stream, read_events
from tests.support.apis import ALL, CHAT_API

KINDS = ("openai-compatible", "vllm")
TEXT = "To [EMAIL_1] and [EMAIL_"
RESTORED = f"To {EMAIL} and [EMAIL_"


def breaking(text: str, ending: object = FIN) -> Script:
    """Return a script that breaks off its stream, in every API, after the last piece of a text."""

    async def script(exchange: Exchange) -> None:
        made, _ = answers_of(exchange.request.path, text, "{}", 3, 1)
        slots = [[slot for read in read_events(event) for slot in slots_of(read)] for event in made]
        spoken = [at for at, each in enumerate(slots) if any(slot.text and slot.kind == "text" for slot in each)]
        await exchange.start_stream()
        for event in made[: spoken[-1] + 1]:
            await exchange.chunk(event)
        await play(ending)(exchange)

    return script


async def test_held_text_of_a_stream_that_breaks_off_is_sent_before_the_error(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, breaking(TEXT))
    for kind in KINDS:
        async with serving(up, MASK, kind) as gateway:
            for api in ALL:
                answer = await post_as(api, client, gateway, text=EMAIL, stream=True)
                told = api.read(answer)
                assert told.error is not None, (kind, api.name, answer.text)
                assert told.text == RESTORED, (kind, api.name, answer.text)


async def test_held_text_is_checked_before_it_is_sent(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, breaking("so: nightfall"))
    async with serving(up, DENY) as gateway:
        for api in ALL:
            told = api.read(await post_as(api, client, gateway, stream=True))
            assert told.text in ("so: ", "so:"), api.name
            assert told.error is not None
            assert told.error["code"] == "content_denied", (api.name, told)


async def test_held_text_is_sent_if_no_target_continues_the_stream(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    provider = f'{{ type: vllm, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
    yaml = f"providers: {{ a: {provider}, b: {provider} }}\nmodels: {{ m: {{ targets: [a/x, b/y], continue_on_cut: true }} }}\n{MASK}"
    for second in (play(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"), sse(chat_chunk("ED"), ending=FIN)):
        async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
            up.once(sse(chat_chunk("say ", role="assistant"), chat_chunk("[EMA"), ending=FIN))
            up.once(second)
            answer = await post_as(CHAT_API, client, gateway, text=EMAIL, stream=True)
            told = CHAT_API.read(answer)
            assert told.error is not None
            assert told.text == ("say [EMA" if len(up.requests) == 2 else "say [EMAED"), answer.text


async def received_from(client: httpx.AsyncClient, url: str) -> tuple[bytes, bool]:
    """Return the bytes of a passed answer, and whether the response was complete."""
    received = b""
    try:
        async with client.stream("POST", url, json={"text": EMAIL}) as answer:
            async for piece in answer.aiter_bytes():
                received += piece
    except httpx.RemoteProtocolError:
        return received, False
    return received, True


async def test_a_passed_stream_that_breaks_off_loses_no_text(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    for ending in (FIN, RST):
        up.on(lambda request: True, breaking(TEXT, ending))
        async with serving_path(up) as gateway:
            received, is_complete = await received_from(client, gateway.base_url + "/x/messages")
        assert not is_complete
        said = "".join(slot.text for event in read_events(received) for slot in slots_of(event))
        assert said == RESTORED


async def test_events_of_a_passed_stream_that_no_hook_can_read_follow_the_setting(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    said = chunk([{"index": 0, "delta": {"content": "to [EMAIL_1]"}, "finish_reason": None}])
    malformed = b'data: {"choices": [{"delta": 5, "index": "x"}, 1], "type": 3}\n\n'
    odd = [b"id: 4\nretry: 20\n" + said, malformed, b"data: plain [EMAIL_1]\n\n", said]

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for event in odd:
            await exchange.chunk(event)
        await exchange.chunk(b"")

    up.on(lambda request: True, script)
    async with serving_path(up, "hooks: [{ mask: {}, failure: open }]") as gateway:
        answer = await client.post(gateway.base_url + "/x/y", json={"text": EMAIL})
        assert answer.text.startswith("id: 4\nretry: 20\ndata: ")
        assert answer.text.count(f"to {EMAIL}") == 2
        assert "data: plain [EMAIL_1]\n\n" in answer.text
        assert gateway.count("lockgate_hook_failures", "mask", "chunk", "error") == 1
    async with serving_path(up) as gateway:
        received, _ = await received_from(client, gateway.base_url + "/x/y")
        assert received.count(EMAIL.encode()) == 1
        assert b"plain" not in received
        (record,) = await gateway.records(1)
        assert record["error"] == "upstream_bad_response"


async def test_the_keys_of_the_gateway_are_masked(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    from gateway.admin.keys import _new_secret

    secret, _, _ = _new_secret()
    async with serving(up, MASK) as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat(text=f"log in with {secret}, or '{secret}'"))
    assert answer.status_code == 200
    assert up.requests[0].json["messages"][0]["content"] == "log in with [API_KEY_1], or '[API_KEY_1]'"


async def test_other_calls_are_answered_while_a_hostile_request_is_masked(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, MASK) as gateway:
        url = gateway.base_url + "/chat/completions"
        hostile = asyncio.create_task(client.post(url, json=chat(text="4444 " * 50_000), timeout=100))
        answered = 0
        while not hostile.done():
            assert (await client.get(gateway.base_url + "/models")).status_code == 200
            answered += 1
        assert (await hostile).status_code == 200
        assert answered > 1
        assert json.loads(up.requests[0].body)["messages"][0]["content"].startswith("4444 ")


async def test_a_stream_of_messages_with_a_cut_at_each_event_is_restored(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    made = message_stream("to [EMAIL_1].", '{"a": "[EMAIL_1]", "b": "\\n[EMAIL_1]"}', 1)
    up.on(lambda request: True, sse_raw(made))
    async with serving_path(up) as gateway:
        answer = await client.post(gateway.base_url + "/x/messages", json={"text": EMAIL})
    said = "".join(slot.text for event in read_events(answer.content) for slot in slots_of(event))
    assert said == f'to {EMAIL}.{{"a": "{EMAIL}", "b": "\\n{EMAIL}"}}'


def sse_raw(made: list[bytes]) -> Script:
    """Return a script that streams events, each in a chunk of its own."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for event in made:
            await exchange.chunk(event)
        await exchange.chunk(b"")

    return script
