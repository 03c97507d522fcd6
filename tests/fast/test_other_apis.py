"""Property tests: calls of other APIs than chat completions are the same in the fast lane and in the pipeline."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from gateway.fast.fast_call import FastCall
from gateway.fast.lane import APIS
from tests.fast.conftest import StartPair
from tests.fast.test_both_ways import COOLDOWN, SLOW, TEXTS, TIMED, assert_same_state, comparable, settled
from tests.faults.behaviours import BEHAVIOURS, canned, play
from tests.faults.client import Answer, FaultClient
from tests.faults.upstream_server import FIN, RST, FaultUpstream, status
from tests.faults.upstream_wire import Exchange, Script
from tests.faults.upstream_wire import Step as Ending
from tests.native import anthropic_fake, cohere_fake, responses_fake
from tests.support.api_requests import to_cohere, to_completion, to_message, to_response
from tests.support.search import examples

Json = dict[str, Any]


class OtherApi(NamedTuple):
    """An API, the end of its upstream path, and the forms of its requests and native answers."""

    path: str
    body: Callable[[Json], Json]
    fields: tuple[tuple[str, tuple[Any, ...]], ...]
    """Fields that only this API has, and values for them."""
    answer: bytes = b""
    events: tuple[bytes, ...] = ()
    failures: tuple[bytes, ...] = ()
    """Events that end a stream with an error."""


def to_embedding(chat: Json) -> Json:
    """Return an embeddings request with the text of the last message of a chat completion."""
    return {"model": chat["model"], "input": chat["messages"][-1]["content"]}


RESPONSES = OtherApi(
    "/v1/responses",
    to_response,
    (
        ("store", (False, True)), ("previous_response_id", ("resp_none",)), ("instructions", ("Be short.",)), ("truncation", ("auto",)),
        ("include", (["reasoning.encrypted_content"],)), ("tools", ([{"type": "web_search"}],)), ("background", (True,)),
        ("text", ({"format": {"type": "json_object"}}, {"verbosity": "low"})),
    ),
    responses_fake.ANSWER,
    responses_fake.EVENTS,
    (responses_fake.FAILED, responses_fake.event("error", 9, code="server_error", message="Boom", param=None)),
)  # fmt: skip
MESSAGES = OtherApi(
    "/v1/messages",
    to_message,
    (
        ("system", ("Be short.", [{"type": "text", "text": "Be short."}])), ("thinking", ({"type": "enabled", "budget_tokens": 1024},)),
        ("max_tokens", (0, 1, None)), ("container", ("c1",)), ("top_k", (4,)),
    ),
    anthropic_fake.ANSWER,
    anthropic_fake.EVENTS,
    (anthropic_fake.OVERLOADED,),
)  # fmt: skip
COHERE = OtherApi(
    "/v2/chat",
    to_cohere,
    (("documents", (["Bern."],)), ("safety_mode", ("OFF",)), ("k", (3,))),
    cohere_fake.ANSWER,
    cohere_fake.EVENTS,
    (cohere_fake.end("ERROR", error="Boom"),),
)
COMPLETIONS = OtherApi("/v1/completions", to_completion, (("echo", (True,)), ("best_of", (2,)), ("prompt", (["a", "b"], [1, 2], None))))
EMBEDDINGS = OtherApi(
    "/v1/embeddings",
    to_embedding,
    (("input", (["a", "b"], [1, 2], [1, 2, 3], 3)), ("encoding_format", ("base64", "float")), ("dimensions", (3,)), ("stream", (True,))),
)
OTHERS = (RESPONSES, MESSAGES, COHERE, COMPLETIONS, EMBEDDINGS)
CHAT_FIELDS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("temperature", (0, 3, "hot")), ("max_tokens", (1, 16, -1)), ("stop", ("x", "w2")), ("user", ("u1",)), ("seed", (7,)),
    ("tools", ([{"type": "function", "function": {"name": "f", "parameters": {}}}],)), ("unknown_field", (1,)), ("n", (2,)),
)  # fmt: skip
HEADERS = (
    ("anthropic-version", "2023-06-01"), ("anthropic-beta", "a-2025-01-01"), ("openai-beta", "x"), ("x-client-name", "me"),
    ("openai-organization", "org"), ("x-gateway-strict", "true"), ("x-request-id", "mine"),
)  # fmt: skip


def native_behaviours(api: OtherApi) -> Mapping[str, Script]:
    """Return the behaviours of an upstream with this API, by the model that selects them."""
    cut = len(api.events) // 2
    broken = api.answer[: len(api.answer) // 2]
    return {
        "mock": speaks(api.answer, api.events),
        "one-piece": speaks(api.answer, (b"".join(api.events),)),
        "in-halves": speaks(api.answer, halves(b"".join(api.events))),
        "crlf": speaks(api.answer, tuple(event.replace(b"\n", b"\r\n") for event in api.events)),
        "cut-by-end": speaks(broken, api.events[:cut], FIN),
        "cut-by-reset": speaks(broken, api.events[:cut], RST),
        "cut-event": speaks(broken, (*api.events[:cut], api.events[cut][:-9]), FIN),
        "without-end": speaks(b"{}", api.events[:-2]),
        "only-start": speaks(b"[]", api.events[:1]),
        "bad-event": speaks(b'{"id": nope', (*api.events[:cut], b'event: x\ndata: {"type": nope\n\n', *api.events[cut:])),
        "surplus": speaks(api.answer, (*api.events, *api.events)),
        **{f"fails-{at}": speaks(b'{"error":{"message":"no"}}', (*api.events[:cut], each)) for at, each in enumerate(api.failures)},
        **{f"fails-first-{at}": speaks(b"", (each,)) for at, each in enumerate(api.failures)},
        "400": status(400, "wrong", type="invalid_request_error"),
        "529": canned(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', 529),
        "501": canned(b"<html>", 501),
    }


def halves(events: bytes) -> tuple[bytes, ...]:
    """Return a stream in pieces that end within events."""
    return tuple(events[at : at + 97] for at in range(0, len(events), 97))


def speaks(answer: bytes, pieces: tuple[bytes, ...], ending: Ending | None = None) -> Script:
    """Return a script that sends a JSON answer, or the pieces of a stream."""

    async def script(exchange: Exchange) -> None:
        if not exchange.request.json.get("stream"):
            await canned(answer)(exchange)
            return
        await exchange.start_stream()
        for piece in pieces:
            await exchange.chunk(piece)
        await (exchange.chunk(b"") if ending is None else play(ending)(exchange))

    return script


def configuration(up: FaultUpstream) -> str:
    """Return a configuration with one model for each behaviour of the upstream. Targets are native, or offer only chat completions."""
    named = {"openai": up.base_url, "anthropic": up.origin, "cohere": up.origin, "friendli": up.base_url}
    providers = "".join(
        f'  {name}: {{ type: {name}, api_key: "${{KEY}}", base_url: "{url}", cooldown: {COOLDOWN} }}\n' for name, url in named.items()
    )
    natives = "".join(f'  "{name}-*": {{ targets: {name}/*, limits: {{ concurrent: 100 }} }}\n' for name in named)
    return f"""
providers:
{providers}  up: {{ type: openai-compatible, base_url: "{up.base_url}", cooldown: {COOLDOWN} }}
models:
{natives}  "plain-*": {{ targets: up/* }}
  "both-*": {{ targets: [openai/*, up/mock] }}
"""


def call(draw: random.Random, api: OtherApi, models: list[str]) -> tuple[bytes, list[tuple[str, str]]]:
    """Return the body and the headers of one call."""
    chat: Json = {"model": draw.choice(models), "messages": [{"role": "user", "content": draw.choice(TEXTS)}]}
    chat |= {name: draw.choice(values) for name, values in CHAT_FIELDS if draw.random() < 0.06}
    if draw.random() < 0.5:
        chat["stream"] = True
    body = {**api.body(chat), **{name: draw.choice(values) for name, values in api.fields if draw.random() < 0.06}}
    text = json.dumps(body, separators=draw.choice(((",", ":"), (", ", ": "))))
    return text.encode(), [header for header in HEADERS if draw.random() < 0.06]


def models_of(api: OtherApi) -> list[str]:
    """Return the models for calls of an API. Many of them answer properly."""
    general = sorted(BEHAVIOURS.keys() - SLOW - TIMED)
    native = {"/v1/responses": "openai", "/v1/messages": "anthropic", "/v2/chat": "cohere"}.get(api.path)
    names = [f"plain-{name}" for name in general]
    names += ["friendli-mock"] * 9 if api is EMBEDDINGS else []  # it has a field of its own for token ids
    if native is not None:
        own = [*native_behaviours(api), *general]
        names += [f"{native}-{name}" for name in own]
        names += [f"both-{name}" for name in own] if native == "openai" else []
        names += [f"{native}-mock"] * len(names)
    return [*names, *["plain-mock"] * (len(names) // 2)]


async def ask(port: int, path: str, body: bytes, headers: list[tuple[str, str]]) -> Answer:
    """Make one call on a new connection."""
    async with await FaultClient.connect(port) as client:
        await client.post(body, headers, path)
        return await client.answer()


@pytest.mark.search
@pytest.mark.parametrize("api", OTHERS, ids=[api.path for api in OTHERS])
async def test_calls_of_other_apis_are_the_same_both_ways(
    start_pair: StartPair, up: FaultUpstream, entered: list[FastCall], api: OtherApi
) -> None:
    if api.events:
        natives = native_behaviours(api)
        up.on(lambda request: request.path.endswith(api.path.removeprefix("/v1")) and request.model in natives,
              lambda exchange: natives[exchange.request.model or ""](exchange))  # fmt: skip
    pair = await start_pair(configuration(up), environ={"KEY": "sk-upstream"})
    draw, models, number = random.Random(api.path), models_of(api), examples(150)
    for _ in range(number):
        body, headers = call(draw, api, models)
        fast, slow = [await ask(gateway.port, api.path, body, headers) for gateway in pair.both]
        assert comparable(fast) == comparable(slow), (body, headers)
        await settled(pair)
    await assert_same_state(pair, number)
    assert len(entered) > number / 3


@pytest.mark.parametrize("base", ["/llm", "/v1", "/v2", "/anthropic"])
async def test_a_base_path_is_removed_both_ways(start_pair: StartPair, up: FaultUpstream, base: str) -> None:
    pair = await start_pair(f"callers: {{ base_path: {base} }}\n{configuration(up).lstrip()}", environ={"KEY": "sk-upstream"})
    body = json.dumps({"model": "plain-mock", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}).encode()
    paths = [path for dialect in APIS for path in dialect.paths]
    answered = 0
    for path in (*paths, *(base + path for path in paths)):
        fast, slow = [await ask(gateway.port, path, body, []) for gateway in pair.both]
        assert comparable(fast) == comparable(slow), path
        answered += "Unknown path" not in fast.body.decode()
        await settled(pair)
    await assert_same_state(pair, answered)


def test_each_api_of_the_lane_is_compared() -> None:
    assert {"/v1/chat/completions", *(api.path for api in OTHERS)} <= {path for dialect in APIS for path in dialect.paths}
    assert len(APIS) == len(OTHERS) + 1
