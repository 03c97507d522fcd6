"""Hooks of passed paths: the bodies that are masked, restored or refused."""

from __future__ import annotations

import gzip
import json
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from gateway.attempts.hook_points import begin_hooks
from gateway.passthrough.hooked import MAX_HOOKED_BODY
from gateway.response.hooked_answer import hooked_stream
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.flows.conftest import CREDENTIAL
from tests.flows.live import Live, live
from tests.flows.test_passed_paths_flow import answering
from tests.hooks.echo import echo, message_stream, response_stream

EMAIL = "ada@example.org"
MASK = "hooks: [{ mask: {} }]"
DENY = "hooks: [{ deny: { words: [nightfall] } }]"


def serving(up: FaultUpstream, rest: str = MASK) -> AbstractAsyncContextManager[Live]:
    """Serve a configuration with a passed path."""
    return live(
        f"""
providers: {{ up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }} }}
models: {{ m: up/mock }}
passthrough: {{ "/v1/x/*": {{ provider: up, websocket: true }} }}
{rest}
""",
        environ={"UP_KEY": CREDENTIAL},
    )


def test_hooks_of_passed_calls_are_bounded() -> None:
    assert MAX_HOOKED_BODY <= 64 << 20
    assert begin_hooks.__doc__ is not None
    assert hooked_stream.__doc__ is not None


async def test_json_is_masked_and_restored(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, answering([{"said": "to [EMAIL_1]"}, 1.50]))
    async with serving(up) as gateway:
        for body in ({"a": [EMAIL]}, [EMAIL], EMAIL):
            answer = await client.post(gateway.base_url + "/x/y", json=body)
            assert answer.json() == [{"said": f"to {EMAIL}"}, 1.5]
            assert int(answer.headers["content-length"]) == len(answer.content)
            assert "replace" in answer.headers["x-gateway-adjusted"]
    assert [json.loads(request.body) for request in up.requests] == [{"a": ["[EMAIL_1]"]}, ["[EMAIL_1]"], "[EMAIL_1]"]
    assert up.requests[0].header("content-length") == str(len(up.requests[0].body))


@pytest.mark.parametrize("made", [message_stream, response_stream])
async def test_streams_of_other_apis_are_restored(up: FaultUpstream, client: httpx.AsyncClient, made: Any) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for event in made("to [EMAIL_1].", '{"a": "[EMAIL_1]"}', 2):
            await exchange.chunk(event)
        await exchange.chunk(b"")

    up.on(lambda request: True, script)
    async with serving(up) as gateway:
        answer = await client.post(gateway.base_url + "/x/y", json={"text": EMAIL})
    said = "".join(event.get("delta", "") if type(event.get("delta")) is str else "".join(
        str(value) for name, value in (event.get("delta") or {}).items() if name in ("text", "partial_json")
    ) for event in (json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")))  # fmt: skip
    assert said == f"to {EMAIL}." + f'{{"a": "{EMAIL}"}}'


async def test_bodies_that_hooks_cannot_read_are_refused(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        form = await client.post(gateway.base_url + "/x/y", files={"file": ("a.txt", EMAIL.encode())})
        assert (form.status_code, form.json()["error"]["code"]) == (415, "content_unreadable")
        assert "a body of the type 'multipart/form-data'" in form.json()["error"]["message"]
        bare = await client.post(gateway.base_url + "/x/y", content=b"{}")
        assert (bare.status_code, bare.json()["error"]["code"]) == (415, "content_unreadable")
        assert "cannot read a body without a content type" in bare.json()["error"]["message"]
        broken = await client.post(gateway.base_url + "/x/y", content=b'{"a":', headers={"content-type": "application/json"})
        assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_json")
        headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "A" * 22 + "=="}
        socket = await client.get(gateway.base_url + "/x/y", headers=headers)
        assert (socket.status_code, socket.json()["error"]["code"]) == (403, "content_unreadable")
    assert up.requests == []


async def test_a_body_with_more_than_one_json_value_is_refused(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        answer = await client.post(gateway.base_url + "/x/y", content='{},"z":{}', headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert up.requests == []


async def test_bodies_that_open_hooks_cannot_read_pass(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, answering(b"\x00\x01", "content-type: audio/mpeg"))
    async with serving(up, "hooks: [{ mask: {}, failure: open }]") as gateway:
        answer = await client.post(gateway.base_url + "/x/y", content=b"\x02", headers={"content-type": "audio/wav"})
    assert (answer.content, up.requests[0].body) == (b"\x00\x01", b"\x02")


async def test_a_denied_json_answer_is_an_error(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, answering({"text": "nightfall"}))
    async with serving(up, DENY) as gateway:
        answer = await client.post(gateway.base_url + "/x/y", json={"a": 1})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "content_denied")
        get = await client.get(gateway.base_url + "/x/y")
        assert get.status_code == 400


@pytest.mark.parametrize("kind", ["Text/Event-Stream", "TEXT/EVENT-STREAM; charset=utf-8", "Text/Plain", "Application/JSON"])
async def test_the_type_of_an_answer_may_have_capital_letters(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    body = b'data: {"text": "to [EMAIL_1]"}\n\n' if "vent" in kind.lower() else b'{"text": "to [EMAIL_1]"}'
    up.on(lambda request: True, answering(body, f"content-type: {kind}"))
    async with serving(up) as gateway:
        answer = await client.post(gateway.base_url + "/x/y", json={"text": EMAIL})
    assert f"to {EMAIL}" in answer.text


async def test_a_compressed_answer_does_not_bypass_the_hooks(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    packed = gzip.compress(b'{"text": "nightfall"}')
    up.on(lambda request: True, answering(packed, "content-type: application/json", "content-encoding: gzip"))
    async with serving(up, DENY) as gateway:
        answer = await client.post(gateway.base_url + "/x/y", json={"a": 1}, headers={"accept-encoding": "gzip"})
        assert answer.status_code == 502
    assert "gzip" not in (up.requests[0].header("accept-encoding") or "")


async def test_a_call_of_an_api_through_a_passed_path_is_restored(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, echo())
    async with serving(up) as gateway:
        body = {"model": "m", "messages": [{"role": "user", "content": EMAIL}], "max_tokens": 5}
        answer = await client.post(gateway.base_url + "/x/messages", json=body)
    assert answer.json()["content"][0]["text"] == f"You wrote {EMAIL}."


UNREADABLE = (
    "content-type: application/vnd.amazon.eventstream", "content-type: application/pdf", "content-type: text/plain; charset=utf-16",
    "content-type: multipart/mixed; boundary=x", "x-none: 1",
)  # fmt: skip


@pytest.mark.parametrize("header", UNREADABLE)
async def test_answer_of_a_type_that_no_hook_can_read_follows_the_setting(
    up: FaultUpstream, client: httpx.AsyncClient, header: str
) -> None:
    up.on(lambda request: True, answering(b"nightfall", header))
    async with serving(up, DENY) as gateway:
        answer = await client.get(gateway.base_url + "/x/y")
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_bad_response")
        assert "cannot read the answer: the provider sent an answer" in answer.json()["error"]["message"]
        assert "nightfall" not in answer.text
    async with serving(up, DENY.replace("} }]", "}, failure: open }]")) as gateway:
        assert (await client.get(gateway.base_url + "/x/y")).content == b"nightfall"
        assert gateway.count("lockgate_hook_failures", "chunk", "error") == 1


async def test_empty_answers_and_media_pass_closed_hooks(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, DENY) as gateway:
        for body, header in ((b"", "x-none: 1"), (b"x", "content-type: audio/mpeg"), (b"x", "content-type: application/octet-stream")):
            up.on(lambda request: True, answering(body, header))
            answer = await client.get(gateway.base_url + "/x/y")
            assert (answer.status_code, answer.content) == (200, body)


async def test_lines_of_json_and_other_texts_are_read(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    lines = [{"message": {"content": each}, "done": False} for each in ("to [EMA", "IL_1]")]
    body = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
    async with serving(up) as gateway:
        up.on(lambda request: True, answering(body, "content-type: application/x-ndjson"))
        answer = await client.post(gateway.base_url + "/x/y", json={"text": EMAIL})
        assert "".join(json.loads(line)["message"]["content"] for line in answer.text.splitlines()) == f"to {EMAIL}"
        up.on(lambda request: True, answering(b"<a>[EMAIL_1]</a>", "content-type: application/xml"))
        assert (await client.post(gateway.base_url + "/x/y", json={"text": EMAIL})).text == f"<a>{EMAIL}</a>"
