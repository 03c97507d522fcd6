"""Receipts compared byte by byte with what a recording upstream got: every difference is listed, at any provider.

The requests are random: they have many parameters, message forms and headers, and are lenient or strict, JSON or streams.
"""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

import providers
from gateway.dialects.parameters import check_parameters
from gateway.emulate.adapt import adapt_body
from gateway.errors import BadRequest
from providers.base import Body, Refusal, Target, WireRequest
from tests.faults.client import FaultClient
from tests.faults.upstream_server import Exchange, FaultUpstream, canned
from tests.flows.live import Live, live
from tests.flows.receipt_check import fields, invented, unreported
from tests.providers.everything import EVERYTHING, MESSAGES, WEATHER
from tests.providers.server import Request
from tests.providers.test_any_request import OTHERS
from tests.providers.wires import good_reply

MODELS: dict[str, tuple[str, ...]] = {
    "openai": ("gpt-4.1", "gpt-5-mini", "gpt-6", "o3"), "anthropic": ("claude-sonnet-4-5", "claude-opus-4-7"),
    "deepseek": ("deepseek-v4-pro",), "xai": ("grok-4.5", "grok-3-mini"), "groq": ("openai/gpt-oss-120b", "llama-3.3-70b-versatile"),
    "cerebras": ("llama3.1-70b", "gpt-oss-120b"), "gemini": ("gemini-2.5-flash", "gemini-3-pro"), "mistral": ("mistral-large-latest",),
}  # fmt: skip
KINDS = sorted(set(providers.OURS) - {"local"})
SETTINGS = {
    "openai": "upstream_api: chat",  # the comparison reads chat completions
    "azure": "base_model: gpt-4.1, upstream_api: chat",
    "friendli": "forward_timeout: true",
}
HEADERS = {
    "anthropic-beta": "one,two", "openai-organization": "org-1", "openai-project": "p", "x-friendli-team": "t", "queue_threshold": "100",
    "x-session-affinity": "s", "groq-model-version": "latest", "x-grok-conv-id": "c", "http-referer": "https://a.example", "x-title": "a b",
    "x-siati-tier": "fast", "cf-ray": "r1", "x-delay-time": "1.5", "x-data-parallel-rank": "1", "x-goog-user-project": "gp",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "baggage": "a=1,b=2",
}  # fmt: skip
CANARY = "canary-5f2c"
CREDENTIALS = {"authorization": f"Bearer {CANARY}", "cookie": CANARY, "x-api-key": CANARY, "x-private": CANARY}
CALLS = [{"id": f"c{number}", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Bern"}'}} for number in (1, 2)]
CUSTOM_CALL = {"id": "call.1", "type": "custom", "custom": {"name": "patch", "input": "- a"}}
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße 🙂"}],
    [{"role": role, "content": role[:1]} for role in ("user", "user", "assistant", "user")],
    [{"role": "user", "content": "w"}, {"role": "assistant", "content": None, "tool_calls": CALLS},
     {"role": "tool", "tool_call_id": "c1", "content": "1"}, {"role": "tool", "tool_call_id": "c2", "content": "2"}],
    [{"role": "user", "content": [{"type": "text", "text": "what"},
                                  {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}}]}],
    [{"role": "developer", "content": "d"}, {"role": "user", "name": "ann", "content": [{"type": "text", "text": "Hi"}]}],
    [{"role": "user", "content": "w"}, {"role": "assistant", "content": None, "tool_calls": [CUSTOM_CALL]},
     {"role": "tool", "tool_call_id": "call.1", "content": "1"}, {"role": "tool", "tool_call_id": "call.1", "content": "2"}],
    [{"role": "user", "content": "w"}, {"role": "assistant", "content": None, "tool_calls": CALLS[:1]},
     {"role": "tool", "tool_call_id": "c1", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}],
    MESSAGES,
]  # fmt: skip
OBJECT = {"type": "object", "properties": {"a": True}}
SCHEMAS: list[Any] = [True, {}, {"type": "array", "items": {}}, {"anyOf": [OBJECT]}, OBJECT]
NAMES = sorted({*EVERYTHING, *OTHERS} - {"messages"})
VALUES: dict[str, list[Any]] = {
    **{name: [*OTHERS.get(name, []), *([EVERYTHING[name]] if name in EVERYTHING else [])] for name in NAMES},
    "x_delay_time": [0.5, 1234567, 3], "max_tokens": [1, 50, 9_999_999], "seed": [7, -1, [4, 4], None], "n": [1, 2, 3],
    "tools": [
        [], [WEATHER], [{"type": "custom", "custom": {"name": "patch"}}], [{"function": {"name": "g", "parameters": None}}],
        [{"type": "function", "function": {**WEATHER["function"], "strict": True}}],
    ],
    "functions": [[], None, [{"name": "f"}], [WEATHER["function"]]],
    "response_format": [
        {"type": "json_object"},
        *({"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}} for schema in SCHEMAS),
    ],
}  # fmt: skip


def config(up: FaultUpstream) -> str:
    lines = [f'  {kind}: {{ base_url: "{up.origin}/{kind}/v1", api_key: "${{K}}", {SETTINGS.get(kind, "")} }}' for kind in KINDS]
    models = [f"  {kind}/{model}: {kind}/{model}" for kind in KINDS for model in MODELS.get(kind, ("example",))]
    return "\n".join(["providers:", *lines, "models:", *models, ""])


async def reply(exchange: Exchange) -> None:
    """Answer as the provider in the path does."""
    request = exchange.request
    answer = good_reply(request.path.split("/")[1], Request(request.path, dict(request.headers), request.json))
    await canned(answer.body, answer.status, {"content-type": answer.content_type})(exchange)


def random_request(draw: random.Random) -> tuple[dict[str, Any], dict[str, str]]:
    kind = draw.choice(KINDS)
    body: dict[str, Any] = {"model": f"{kind}/{draw.choice(MODELS.get(kind, ('example',)))}", "messages": draw.choice(CONVERSATIONS)}
    for name in draw.sample(NAMES, draw.choice((0, 1, 2, 3, 6))):
        body[name] = draw.choice(VALUES[name])
    names = draw.sample(sorted(HEADERS), draw.choice((0, 0, 1, 3)))
    return body, {name: HEADERS[name] for name in names}


def receipt_in(body: bytes) -> dict[str, Any]:
    """Return the receipt of a JSON answer, an error or a stream."""
    text = body if body.startswith(b"{") else next(part for part in reversed(body.split(b"\n\n")) if b'"gateway"' in part)[6:]
    receipt: dict[str, Any] = json.loads(text)["gateway"]
    return receipt


async def check(client: FaultClient, up: FaultUpstream, draw: random.Random) -> list[str]:
    """Make one random call. Return the differences that its receipt does not list, or that it lists without reason."""
    body, headers = random_request(draw)
    strict = draw.random() < 0.3
    up.ledger.requests.clear()
    source = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    more = {"x-gateway-receipt": "body", **({"x-gateway-strict": "true"} if strict else {}), **CREDENTIALS}
    await client.post(source, {**headers, **more}.items())
    answer = await client.answer()
    if answer.status == 400 and not up.requests:
        return []
    assert answer.status == 200, (body, answer.body[:600])
    adjustments = receipt_in(answer.body)["adjustments"]
    found: list[str] = []
    for request in up.requests:
        found += unreported(source, headers, request, adjustments)
        found += invented(source, request, adjustments)
        if CANARY.encode() in request.head + request.body:
            found.append("a credential of the caller was sent")
    lossy = [each for each in adjustments if strict and each["action"] == "truncate"]
    found += [f"lossy in strict mode: {each}" for each in lossy]
    return [f"{difference}; {json.dumps(body)[:700]} {headers} {adjustments}" for difference in dict.fromkeys(found)]


async def run(count: int, seed: int) -> None:
    draw = random.Random(seed)
    async with FaultUpstream() as up:
        up.on(lambda request: True, reply)
        gateway: Live
        async with live(config(up), environ={"K": "upstream-key"}) as gateway, await FaultClient.connect(gateway.port) as client:
            found = [difference for _ in range(count) for difference in await check(client, up, draw)]
    assert found == [], f"{len(found)} differences:\n" + "\n".join(found[:20])


async def test_receipts_list_every_difference() -> None:
    await run(300, seed=1)


@pytest.mark.prove
async def test_receipts_list_every_difference_of_5000_requests() -> None:
    await run(5_000, seed=2)


ENGINE_FIELDS = frozenset({"stream", "stream_options", "return_progress"})
"""Fields of every request to the local engine, which always streams."""


def check_local(draw: random.Random) -> list[str]:
    """Adapt one random request to the local engine. Return the differences that its adjustments do not list."""
    body, _ = random_request(draw)
    source = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    request = Body(source)
    kind = providers.get("local")
    target = Target("local/m", "local", kind, "m", "http://engine/v1")
    try:
        check_parameters(request)
        adapted = adapt_body(request, target, "chat", strict=False, stream=body.get("stream") is True)
    except (Refusal, BadRequest):
        return []
    adjustments = json.loads(msgspec.json.encode(adapted.adjustments))
    wire = kind.encode(adapted.body, target, adapted.options)
    kept = {name: json.loads(raw) for name, raw in fields(source).items() if name not in ENGINE_FIELDS}
    wire.body = json.dumps({name: value for name, value in json.loads(wire.body).items() if name not in ENGINE_FIELDS}).encode()
    found = [*unreported(json.dumps(kept).encode(), {}, wire, adjustments), *invented(source, wire, adjustments)]
    return [f"{difference}; {json.dumps(body)[:500]} {adjustments}" for difference in found]


def test_adjustments_for_the_local_engine_list_every_difference() -> None:
    draw = random.Random(3)
    found = [difference for _ in range(1000) for difference in check_local(draw)]
    assert found == [], f"{len(found)} differences:\n" + "\n".join(found[:20])


@pytest.mark.parametrize(("sent", "problem"), [
    (b'{"model":"m","messages":[],"top_p":1}', "'top_p' was sent as b'1' instead of b'1.0'"),
    (b'{"model":"m","messages":[]}', "'top_p' was not sent"),
    (b'{"model":"m","messages":[],"top_p":1.0,"seed":1}', "'seed' was added: b'1'"),
])  # fmt: skip
def test_a_difference_that_is_not_reported_is_found(sent: bytes, problem: str) -> None:
    request = b'{"model":"x","messages":[],"top_p":1.0}'
    assert list(unreported(request, {}, WireRequest("/", [], sent), [])) == [problem]
    about = problem.split("'")[1]
    assert list(unreported(request, {}, WireRequest("/", [], sent), [{"param": about, "action": "reshape"}])) == []


def test_headers_that_are_not_reported_are_found() -> None:
    request = b'{"model":"x","messages":[]}'
    wire = WireRequest("/", [("x-b", "2"), ("x-b", "3")], request)
    assert len(list(unreported(request, {"x-a": "1"}, wire, []))) == 3
    dropped = [{"param": "top_p", "action": "drop"}]
    sent = WireRequest("/", [], b'{"model":"x","messages":[],"top_p":1}')
    assert list(invented(b'{"model":"x","messages":[],"top_p":1}', sent, dropped)) == ["'top_p' is said to be dropped, but was sent"]
