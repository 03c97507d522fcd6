"""Receipts of chat completions that go through the Responses API, compared byte by byte with what the upstream got.

The upstream's request is converted back to a chat completion by separate code. Adjustments that only report the other form
are left out, so every other difference must be on the receipt.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.client import FaultClient
from tests.faults.upstream_server import Exchange, FaultUpstream, canned
from tests.flows.live import live
from tests.flows.receipt_check import Adjustments, fields, invented, unreported
from tests.flows.test_receipts_complete import CANARY, CREDENTIALS, MODELS, random_request, receipt_in
from tests.native import responses_fake as fake
from tests.support.each import each

KINDS = {"openai": (*MODELS["openai"], "gpt-5.6"), "azure": ("gpt-4.1", "o3")}
FORMS = ("the call is sent through the Responses API", "the name is beside the type")
PLACES = ("max_output_tokens", "text.format", "text.verbosity", "reasoning.effort", "reasoning.summary")
"""The names in the Responses API of fields that have another name in chat completions."""
Json = dict[str, Any]


def tells_only_the_form(adjustment: Json) -> bool:
    """Return whether an adjustment only reports that the Responses API has another form."""
    to = adjustment.get("to")
    return adjustment.get("why") in FORMS or to in PLACES or str(to).startswith("include: ")


def packed(value: Any) -> bytes:
    """Return the JSON that the caller would write."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def part_of(part: Json) -> Json:
    """Return a content part of a chat completion."""
    kind, rest = part["type"], {name: value for name, value in part.items() if name != "type"}
    if kind in ("input_text", "output_text"):
        return {"type": "text", **rest}
    if kind == "input_image":
        detail = {} if rest["detail"] == "auto" else {"detail": rest["detail"]}
        return {"type": "image_url", "image_url": {"url": rest["image_url"], **detail}}
    assert kind == "input_file"
    return {"type": "file", "file": rest}


def content_of(content: Any) -> Any:
    return content if type(content) is str else [part_of(part) for part in content]


def messages_of(items: Iterable[Json]) -> Iterator[Json]:
    """Yield the messages of a chat completion."""
    open_: Json | None = None
    for item in items:
        kind = item.get("type", "message")
        if kind in ("function_call", "custom_tool_call"):
            name, given = ("function", "arguments") if kind == "function_call" else ("custom", "input")
            call = {"id": item["call_id"], "type": name, name: {"name": item["name"], given: item[given]}}
            open_ = open_ or {"role": "assistant", "content": None}
            open_.setdefault("tool_calls", []).append(call)
            continue
        if open_ is not None:
            yield open_
            open_ = None
        if kind.endswith("_output"):
            yield {"role": "tool", "tool_call_id": item["call_id"], "content": content_of(item["output"])}
        elif item["role"] == "assistant":
            open_ = {"role": "assistant", "content": content_of(item["content"])}
        else:
            yield {"role": item["role"], "content": content_of(item["content"])}
    if open_ is not None:
        yield open_


def named(value: Json) -> Json:
    """Return a tool, or the choice of one, with its name inside the object of its type."""
    kind = value["type"]
    if kind == "allowed_tools":
        return {"type": kind, kind: {**{n: v for n, v in value.items() if n != "type"}, "tools": [named(t) for t in value["tools"]]}}
    return {"type": kind, kind: {name: each for name, each in value.items() if name != "type"}} if "name" in value else value


def plain_tool(tool: Any) -> Any:
    """Return a tool without the defaults that one of the two forms writes out."""
    function = tool.get("function") if type(tool) is dict else None
    if type(function) is not dict:
        return tool
    kept = {name: value for name, value in function.items() if value is not None and (name, value) != ("strict", False)}
    return {"type": "function", "function": dict(sorted(kept.items()))}


def as_chat(body: bytes) -> bytes:
    """Write a request of the Responses API as a chat completion."""
    raw = fields(body)
    sent: Json = {name: json.loads(value) for name, value in raw.items()}
    found: dict[str, bytes] = {}

    def put(name: str, value: Any) -> None:
        found[name] = packed(value)

    put("messages", list(messages_of(sent.pop("input"))))
    if "max_output_tokens" in sent:
        put("max_completion_tokens", sent.pop("max_output_tokens"))
    text = sent.pop("text", {})
    if (form := text.get("format")) is not None:
        inner = {name: value for name, value in form.items() if name != "type"}
        put("response_format", {"type": form["type"], "json_schema": inner} if form["type"] == "json_schema" else form)
    if "verbosity" in text:
        put("verbosity", text["verbosity"])
    reasoning = sent.pop("reasoning", {})
    if "effort" in reasoning:
        put("reasoning_effort", reasoning["effort"])
    if "summary" in reasoning:
        put("include_reasoning", True)
    include = sent.pop("include", [])
    if "message.output_text.logprobs" in include:
        include.remove("message.output_text.logprobs")
        put("logprobs", True)
    if include:
        put("include", include)
    if "tools" in sent:
        put("tools", [plain_tool(named(tool)) for tool in sent.pop("tools")])
    if type(sent.get("tool_choice")) is dict:
        put("tool_choice", named(sent.pop("tool_choice")))
    return joined({**found, **{name: raw[name] for name in sent}})


def joined(found: dict[str, bytes]) -> bytes:
    """Return a JSON object of raw values."""
    return b"{" + b",".join(packed(name) + b":" + value for name, value in found.items()) + b"}"


def comparable(source: bytes) -> bytes:
    """Return the caller's request, with tools as `as_chat` writes them and without empty texts beside tool calls."""
    found = fields(source)
    if type(tools := json.loads(found.get("tools", b"null"))) is list:
        found["tools"] = packed([plain_tool(tool) for tool in tools])
    return joined(found)


def differences(source: bytes, headers: dict[str, str], upstream: Any, adjustments: Adjustments) -> list[str]:
    """Return the differences that the receipt does not list, and the adjustments that it lists without reason."""
    about = [each for each in adjustments if not tells_only_the_form(each)]
    chat = SimpleNamespace(body=as_chat(upstream.body), headers=upstream.headers)
    return [*unreported(comparable(source), headers, chat, about), *invented(comparable(source), chat, about)]


async def reply(exchange: Exchange) -> None:
    """Answer as the Responses API does."""
    if not exchange.request.json.get("stream"):
        await canned(fake.ANSWER)(exchange)
        return
    await exchange.start_stream()
    for event in fake.EVENTS:
        await exchange.chunk(event)
    await exchange.chunk(b"")


def config(up: FaultUpstream) -> str:
    """Return a configuration in which every chat completion goes through the Responses API."""
    azure = f'  azure: {{ base_url: "{up.origin}/openai/v1", api_key: "${{K}}", upstream_api: responses, base_model: gpt-4.1 }}'
    openai = f'  openai: {{ base_url: "{up.origin}/v1", api_key: "${{K}}", upstream_api: responses }}'
    models = [f"  {kind}/{model}: {kind}/{model}" for kind, models in KINDS.items() for model in models]
    return "\n".join(["providers:", openai, azure, "models:", *models, ""])


async def check(client: FaultClient, up: FaultUpstream, draw: random.Random) -> list[str]:
    """Make one random call. Return the differences that its receipt does not list, or that it lists without reason."""
    body, headers = random_request(draw)
    kind = draw.choice(sorted(KINDS))
    body["model"] = f"{kind}/{draw.choice(KINDS[kind])}"
    up.ledger.requests.clear()
    source = packed(body)
    more = {"x-gateway-receipt": "body", **({"x-gateway-strict": "true"} if draw.random() < 0.3 else {}), **CREDENTIALS}
    await client.post(source, {**headers, **more}.items())
    answer = await client.answer()
    if answer.status == 400 and not up.requests:
        return []
    assert answer.status == 200, (body, answer.body[:600])
    adjustments = receipt_in(answer.body)["adjustments"]
    found: list[str] = []
    for request in up.requests:
        assert request.path.endswith("/responses")
        found += differences(source, headers, request, adjustments)
        if CANARY.encode() in request.head + request.body:
            found.append("a credential of the caller was sent")
    return [f"{difference}; {json.dumps(body)[:700]} {adjustments}" for difference in dict.fromkeys(found)]


async def run(count: int, seed: int) -> int:
    """Compare the receipts of random calls. Return the number of calls that reached the upstream."""
    draw, sent = random.Random(seed), 0
    found: list[str] = []
    async with FaultUpstream() as up:
        up.on(lambda request: True, reply)
        async with live(config(up), environ={"K": "upstream-key"}) as gateway, await FaultClient.connect(gateway.port) as client:
            for _ in range(count):
                found += await check(client, up, draw)
                sent += bool(up.requests)
    assert found == [], f"{len(found)} differences:\n" + "\n".join(found[:20])
    return sent


async def test_receipts_list_every_difference() -> None:
    assert await run(100, seed=1) > 40


@pytest.mark.prove
@pytest.mark.timeout(300)
async def test_receipts_list_every_difference_of_5000_requests() -> None:
    assert await run(5_000, seed=2) > 2_000


SENT: Json = {
    "model": "m", "stream": False, "store": False, "max_output_tokens": 50, "reasoning": {"effort": "low"},
    "input": [{"role": "user", "content": "w"}, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
              {"type": "function_call_output", "call_id": "c", "output": "1"}],
    "tools": [{"type": "function", "name": "f", "parameters": None, "strict": False}],
}  # fmt: skip
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ASKED: Json = {
    "model": "x", "stream": False, "store": False, "max_completion_tokens": 50, "reasoning_effort": "low",
    "messages": [{"role": "user", "content": "w"}, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                 {"role": "tool", "tool_call_id": "c", "content": "1"}],
    "tools": [{"type": "function", "function": {"name": "f"}}],
}  # fmt: skip


@each(
    ("changed", "about"),
    [
        ({}, ""),
        ({"max_output_tokens": 51}, "max_completion_tokens"),
        ({"reasoning": {}}, "reasoning_effort"),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, "include_reasoning"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"input": [*SENT["input"][:2], {**SENT["input"][2], "output": "2"}]}, "messages"),
        ({"input": SENT["input"][:2]}, "messages"),
        ({"tools": [{**SENT["tools"][0], "strict": True}]}, "tools"),
        ({"text": {"verbosity": "low"}}, "verbosity"),
        ({"seed": 1}, "seed"),
    ],
)
def test_a_difference_that_is_not_reported_is_found(changed: Json, about: str) -> None:
    upstream = SimpleNamespace(body=packed({**SENT, **changed}), headers=[])
    form = [{"param": "messages", "action": "reshape", "to": "input", "why": FORMS[0]}]
    found = differences(packed(ASKED), {}, upstream, form)
    assert bool(found) is bool(about), found
    assert all(about in difference for difference in found)
