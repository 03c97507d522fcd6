"""A team's own hooks, the deny list and the guard over HTTP: changes, refusals, failures and deadlines in every API."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import Exchange, FaultUpstream, Script
from tests.flows.conftest import CREDENTIAL, RECEIPT, chat, post_as, receipt_of, serving
from tests.flows.live import eventually, live
from tests.flows.operator import bearer, digest
from tests.hooks.echo import answers_of, echo
from tests.support.apis import ALL, ALL_CONVERSATIONS, CHAT_API
from tests.support.metrics import value

MODULE = '''
import asyncio, time
from gateway.hooks.api import Change, Emit, Headers, Hook, Refuse, Skip

seen = []

class Shout(Hook):
    """Writes requests and answers in capitals, and adds a header."""
    def __init__(self, suffix="!"):
        self.suffix = suffix
    def request(self, request):
        return Change({each.path: each.text.upper() for each in request.texts if each.kind == "text"}, "capitals")
    def target(self, target):
        return Skip("it is closed") if target.name.startswith("closed/") else Headers({"x-team": target.call.key + self.suffix})
    def chunk(self, chunk):
        return Emit(chunk.text.upper(), why="capitals") if chunk.kind == "text" else None
    def settled(self, settled):
        seen.append(settled)

class Broken(Hook):
    def __init__(self, point, failure="closed", slow=False):
        self.point, self.slow = point, slow
        Broken.failure = failure
    def request(self, request):
        return self.fail("request")
    def target(self, target):
        return self.fail("target")
    def chunk(self, chunk):
        return self.fail("chunk")
    def fail(self, point):
        if point != self.point:
            return None
        if self.slow:
            return asyncio.sleep(60)
        raise RuntimeError("secret text")

class Wrong(Hook):
    def request(self, request):
        return "yes"

class WrongText(Hook):
    """Returns numbers where texts belong."""
    def __init__(self, point):
        self.point = point
    def request(self, request):
        return Change({each.path: 5 for each in request.texts}) if self.point == "request" else None
    def target(self, target):
        return Headers({"x-team": 5}) if self.point == "target" else None
    def chunk(self, chunk):
        return Emit(5) if self.point == "chunk" else None

class Counting(Hook):
    """Gives another reason for each piece."""
    def chunk(self, chunk):
        count = chunk.state["count"] = chunk.state.get("count", 0) + 1
        return Emit(chunk.text, why=f"change {count}")

class Owner(Hook):
    """Sets the credential and the team of a request."""
    def target(self, target):
        return Headers({"authorization": "Bearer of-the-team", "X-Team": "a"})

shout = Shout("?")
not_a_hook = object()
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with the module `team_rules`, which Python finds through the configuration next to it."""
    (tmp_path / "team_rules.py").write_text(MODULE)
    sys.path.append(str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    sys.modules.pop("team_rules", None)


def saying(text: str, size: int = 3) -> Script:
    """Return a script that answers with a text in every API."""
    return echo(size, lambda body: text)


def pausing(text: str, first: asyncio.Event) -> Script:
    """Return a script that streams a text, and waits for `first` after the first pieces."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        made, _ = answers_of(exchange.request.path, text, "{}", 3, 1)
        for number, event in enumerate(made):
            await exchange.chunk(event)
            if number == 7:
                await first.wait()
        await exchange.chunk(b"")

    return script


async def test_a_hook_changes_requests_headers_and_answers_in_every_api(up: FaultUpstream, client: httpx.AsyncClient, folder: Path) -> None:
    up.on(lambda request: True, saying("some words"))
    keys = f"keys: {{ k: {{ hash: '{digest('lg-k')}' }} }}\n"
    async with serving(up, f"{keys}hooks: [team_rules:Shout]\n") as gateway:
        for api in ALL:
            for stream in (False, True):
                answer = await post_as(api, client, gateway, stream=stream, headers={**RECEIPT, **bearer("lg-k")})
                told = api.read(answer)
                assert told.text == "SOME WORDS", (api.name, stream, answer.text)
                assert "HELLO" in up.requests[-1].body.decode()
                assert up.requests[-1].header("x-team") == "k!"
                assert told.receipt is not None
                whys = [each["why"] for each in told.receipt["adjustments"] if each["action"] == "replace"]
                assert len(whys) >= 3, (api.name, stream, whys)
                assert all("team_rules:Shout" in why for why in whys)
        await gateway.records(len(ALL) * 2)
    module = sys.modules["team_rules"]
    assert [(each.status, each.call.key, each.target) for each in module.seen] == [(200, "k", "up/mock")] * len(ALL) * 2


async def test_a_hook_skips_a_target(up: FaultUpstream, client: httpx.AsyncClient, folder: Path) -> None:
    provider = f'{{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
    yaml = f"providers: {{ closed: {provider}, b: {provider} }}\nmodels: {{ m: [closed/x, b/y], n: closed/x }}\nhooks: [team_rules:shout]\n"
    async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat(), headers=RECEIPT)
        assert answer.headers["x-gateway-target"] == "b/y"
        assert receipt_of(answer)["skipped"][0]["target"] == "closed/x"
        refused = await client.post(gateway.base_url + "/chat/completions", json=chat("n"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "refused_by_hook")
    assert len(up.requests) == 1


@pytest.mark.parametrize("kind", ["anthropic", "vllm"])
async def test_hooks_decide_which_target_counts_tokens(up: FaultUpstream, client: httpx.AsyncClient, folder: Path, kind: str) -> None:
    provider = f'{{ type: {kind}, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
    yaml = f"providers: {{ closed: {provider}, b: {provider} }}\nmodels: {{ m: [closed/x, b/y], n: closed/x }}\n"
    yaml += "hooks: [team_rules:shout, team_rules:Owner]\n"
    bodies: dict[str, dict[str, Any]] = {
        "/messages/count_tokens": chat(max_tokens=9), "/responses/input_tokens": {"input": "a"}, "/tokenize": {"prompt": "a"},
        **({"/detokenize": {"tokens": [1, 2]}} if kind == "vllm" else {}),
    }  # fmt: skip
    async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
        for path, body in bodies.items():
            up.reset()
            refused = await client.post(gateway.base_url + path, json={**body, "model": "n"})
            assert (refused.status_code, refused.json().get("error", {}).get("code")) == (400, "refused_by_hook"), (path, refused.text)
            assert up.requests == []
            await client.post(gateway.base_url + path, json={**body, "model": "m"})
            for request in up.requests:
                assert [value for name, value in request.headers if name == "authorization"] == ["Bearer of-the-team"], request.path
                assert json.loads(request.body).get("model") in ("y", None)
            assert up.requests or (kind, path) != ("vllm", "/tokenize"), path


async def test_a_passed_path_whose_target_is_skipped_is_refused(up: FaultUpstream, client: httpx.AsyncClient, folder: Path) -> None:
    provider = f'{{ type: openai-compatible, base_url: "{up.base_url}" }}'
    yaml = f'providers: {{ closed: {provider} }}\nmodels: {{ m: closed/x }}\npassthrough: {{ "/v1/other": closed }}\n'
    yaml += "hooks: [team_rules:shout]\n"
    async with live(yaml) as gateway:
        for answer in (
            await client.post(gateway.base_url + "/other", json={"prompt": "a"}), await client.get(gateway.base_url + "/other"),
        ):  # fmt: skip
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "refused_by_hook")
            assert "it is closed" in answer.json()["error"]["message"]
    assert up.requests == []


@pytest.mark.parametrize("point", ["request", "target", "chunk"])
@pytest.mark.parametrize("slow", [False, True])
async def test_a_closed_failure_is_an_error_in_the_format_of_the_caller(
    up: FaultUpstream, client: httpx.AsyncClient, folder: Path, point: str, slow: bool
) -> None:
    up.on(lambda request: True, saying("some words"))
    options = json.dumps({"point": point, "slow": slow})
    async with serving(up, f"hooks: [{{ use: 'team_rules:Broken', options: {options}, deadline: 50ms }}]\n") as gateway:
        for api in ALL_CONVERSATIONS:
            for stream in (False, True):
                answer = await post_as(api, client, gateway, stream=stream)
                assert answer.status_code == 503, (api.name, stream, answer.text)
                error = api.read_json(answer.json()).error if api.name == "cohere" else api.read(answer).error
                assert error is not None
                assert "team_rules:Broken" in error["message"]
                assert error["code"] == "hook_failed"
        reason = "deadline" if slow else "error"
        labels = {"hook": "team_rules:Broken", "point": point, "reason": reason}
        counted = value(gateway.gateway.metrics, "lockgate_hook_failures_total", **labels)
        assert counted == len(ALL_CONVERSATIONS) * 2
        assert any("team_rules:Broken" in line and point in line for line in gateway.reports)
        assert not any("secret text" in line for line in gateway.reports)
    assert len(up.requests) == (len(ALL_CONVERSATIONS) * 2 if point == "chunk" else 0)


@pytest.mark.parametrize("point", ["request", "target", "chunk"])
async def test_after_an_open_failure_the_call_continues_and_the_failure_is_counted(
    up: FaultUpstream, client: httpx.AsyncClient, folder: Path, point: str
) -> None:
    up.on(lambda request: True, saying("some words"))
    async with serving(up, f"hooks: [{{ use: 'team_rules:Broken', options: {{ point: {point} }}, failure: open }}]\n") as gateway:
        for stream in (False, True):
            for api in ALL_CONVERSATIONS:
                answer = await post_as(api, client, gateway, stream=stream)
                assert api.read(answer).text == "some words"
        labels = {"hook": "team_rules:Broken", "point": point, "reason": "error"}
        assert value(gateway.gateway.metrics, "lockgate_hook_failures_total", **labels) >= len(ALL_CONVERSATIONS) * 2


async def test_a_wrong_result_is_a_failure(up: FaultUpstream, client: httpx.AsyncClient, folder: Path) -> None:
    async with serving(up, "hooks: [team_rules:Wrong]\n") as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat())
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "hook_failed")
    assert up.requests == []


@pytest.mark.parametrize("point", ["request", "target", "chunk"])
async def test_a_wrong_field_of_a_result_is_a_failure_in_every_api(
    up: FaultUpstream, client: httpx.AsyncClient, folder: Path, point: str
) -> None:
    up.on(lambda request: True, saying("some words"))
    for failure in ("closed", "open"):
        hook = f"{{ use: 'team_rules:WrongText', options: {{ point: {point} }}, failure: {failure} }}"
        async with serving(up, f"hooks: [{hook}]\n") as gateway:
            for api in ALL:
                for stream in (False, True):
                    answer = await post_as(api, client, gateway, stream=stream)
                    if failure == "open":
                        assert (answer.status_code, api.read(answer).text) == (200, "some words"), (api.name, stream, answer.text)
                    else:
                        assert (answer.status_code, "team_rules:WrongText" in answer.text) == (503, True), (api.name, stream, answer.text)
            assert all("TypeError" in line for line in gateway.reports)


async def test_a_header_of_a_hook_replaces_the_header_of_the_provider_and_of_the_caller(
    up: FaultUpstream, client: httpx.AsyncClient, folder: Path
) -> None:
    up.on(lambda request: True, saying("some words"))
    yaml = f"""
providers:
  up: {{ type: vllm, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", headers: {{ x-team: configured }} }}
models: {{ m: up/mock }}
passthrough: {{ "/v1/other": up }}
hooks: [team_rules:Owner]
"""
    async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
        for api in ALL:
            await post_as(api, client, gateway, headers={"x-team": "forged"})
        await client.post(gateway.base_url + "/other", json={"prompt": "a"}, headers={"x-team": "forged"})
    assert len(up.requests) == len(ALL) + 1
    for request in up.requests:
        sent = [each for each in request.headers if each[0] in ("authorization", "x-team")]
        assert sorted(sent) == [("authorization", "Bearer of-the-team"), ("x-team", "a")], request.path


async def test_each_change_of_a_stream_is_on_the_receipt_once(up: FaultUpstream, client: httpx.AsyncClient, folder: Path) -> None:
    up.on(lambda request: True, saying("some words", 1))
    async with serving(up, "hooks: [team_rules:Counting]\n") as gateway:
        for stream in (False, True):
            answer = await post_as(CHAT_API, client, gateway, stream=stream, headers=RECEIPT)
            told = CHAT_API.read(answer)
            assert told.receipt is not None
            whys = [each["why"].rpartition(" ")[2] for each in told.receipt["adjustments"] if "change" in each.get("why", "")]
            assert whys == [str(number) for number in range(1, len(whys) + 1)]
            assert len(whys) >= (len("some words") if stream else 1)


async def test_a_denied_answer_is_an_error_in_every_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, saying("nightfall is near"))
    for kind in ("openai-compatible", "vllm"):
        async with serving(up, "hooks: [{ deny: { words: [nightfall] } }]\n", kind) as gateway:
            for api in ALL_CONVERSATIONS:
                for stream in (False, True):
                    answer = await post_as(api, client, gateway, stream=stream)
                    assert (answer.status_code, "night" in answer.text) == (400, False), (api.name, answer.text)


async def test_a_stream_that_is_denied_after_its_first_text_ends_with_an_error_event(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    for kind in ("openai-compatible", "vllm"):
        async with serving(up, "hooks: [{ deny: { words: [nightfall] } }]\n", kind) as gateway:
            for api in ALL_CONVERSATIONS:
                first = asyncio.Event()
                up.on(lambda request: True, pausing("before the long nightfall", first))
                body = api.body(chat(stream=True))
                received = b""
                async with client.stream("POST", gateway.url + api.path, json=body) as answer:
                    assert answer.status_code == 200
                    async for piece in answer.aiter_bytes():
                        received += piece
                        first.set()
                error = api.read_bytes(received, stream=True).error
                assert b"night" not in received
                assert error is not None, (api.name, received)
                assert error["code"] == "content_denied"


async def test_a_denied_request_reaches_no_upstream_in_any_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, "hooks: [{ deny: { words: [nightfall] } }]\n") as gateway:
        for api in ALL:
            answer = await post_as(api, client, gateway, text="the Nightfall plan")
            assert answer.status_code == 400, api.name
        for path, body in (
            ("/embeddings", {"input": "nightfall"}), ("/rerank", {"query": "nightfall", "documents": ["a"]}),
            ("/tokenize", {"prompt": "nightfall"}),
        ):  # fmt: skip
            answer = await client.post(gateway.base_url + path, json={"model": "m", **body})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "content_denied"), path
    assert up.requests == []


def judge(seen: list[dict[str, Any]]) -> Script:
    """Return the script of a guard's service: it refuses `bad`, replaces `worse` and allows everything else."""

    async def script(exchange: Exchange) -> None:
        asked = exchange.request.json
        seen.append(asked)
        texts = {each["path"]: each["text"] for each in asked["texts"]}
        verdict: dict[str, Any] = {"action": "allow"}
        if any("bad" in text for text in texts.values()):
            verdict = {"action": "refuse", "message": "That is bad."}
        elif any("worse" in text for text in texts.values()):
            verdict = {"action": "replace", "texts": {path: text.replace("worse", "fine") for path, text in texts.items()}}
        body = json.dumps(verdict).encode()
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    return script


async def test_a_guard_decides_on_requests_and_answers_in_every_api(
    up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient
) -> None:
    seen: list[dict[str, Any]] = []
    other.on(lambda request: True, judge(seen))
    up.on(lambda request: True, saying("it is worse than it was"))
    hooks = f'hooks: [{{ mask: {{}} }}, {{ guard: {{ url: "{other.origin}/check", headers: {{ authorization: Bearer g }} }} }}]\n'
    async with serving(up, hooks) as gateway:
        for api in ALL:
            for stream in (False, True):
                answer = await post_as(api, client, gateway, text="mail a@example.org", stream=stream)
                assert api.read(answer).text == "it is fine than it was", (api.name, stream, answer.text)
                refused = await post_as(api, client, gateway, text="a bad one", stream=stream)
                assert refused.status_code == 400, (api.name, stream, refused.text)
                assert "That is bad." in refused.text
    assert other.requests[0].header("authorization") == "Bearer g"
    assert "a@example.org" not in json.dumps(seen)


async def test_a_guard_that_does_not_answer_fails_closed(up: FaultUpstream, other: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, f'hooks: [{{ guard: {{ url: "{other.origin}/nowhere" }} }}]\n') as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat())
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "hook_failed")
    assert up.requests == []


async def test_a_reload_adds_and_removes_hooks(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        yaml = gateway.path.read_text()
        before = await client.post(gateway.base_url + "/chat/completions", json=chat(text="nightfall"))
        gateway.path.write_text(yaml + "hooks: [{ deny: { words: [nightfall] } }]\n")
        assert await gateway.reloader.reload() == "applied"
        denied = await client.post(gateway.base_url + "/chat/completions", json=chat(text="nightfall"))
        gateway.path.write_text(yaml + "hooks: [no_such_module:Hook]\n")
        assert await gateway.reloader.reload() == "failed"
        still = await client.post(gateway.base_url + "/chat/completions", json=chat(text="nightfall"))
        gateway.path.write_text(yaml)
        assert await gateway.reloader.reload() == "applied"
        after = await client.post(gateway.base_url + "/chat/completions", json=chat(text="nightfall"))
    assert [each.status_code for each in (before, denied, still, after)] == [200, 400, 400, 200]
    await eventually(lambda: up.ledger.open == 0)


async def test_a_refusal_in_a_hedged_call_ends_the_call(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, saying("it is nightfall"))
    provider = f'{{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
    models = "models: { m: { targets: [a/x, b/y], hedge: { after: 1ms } } }"
    yaml = f"providers: {{ a: {provider}, b: {provider} }}\n{models}\nhooks: [{{ deny: {{ words: [nightfall] }} }}]\n"
    async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
        for stream in (False, True):
            answer = await client.post(gateway.base_url + "/chat/completions", json=chat(stream=stream))
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "content_denied")
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)


async def test_the_text_of_token_ids_passes_through_the_hooks(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = f"""
providers: {{ up: {{ type: openai, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }} }}
models: {{ m: up/gpt-4o }}
"""
    ids: list[int] = []
    deny = "hooks: [{ deny: { words: [hello]%s } }]\n"
    for hook, status in (("", 200), (deny % ", action: replace", 200), (deny % "", 400)):
        async with live(yaml + hook, environ={"UP_KEY": CREDENTIAL}) as gateway:
            ids = ids or (await client.post(gateway.base_url + "/tokenize", json={"model": "m", "prompt": "hello world"})).json()["tokens"]
            answer = await client.post(gateway.base_url + "/detokenize", json={"model": "m", "tokens": ids})
        assert answer.status_code == status, answer.text
        if status == 400:
            assert answer.json()["error"]["code"] == "content_denied"
        else:
            assert answer.json()["text"] == answer.json()["prompt"] == ("[removed] world" if hook else "hello world")
