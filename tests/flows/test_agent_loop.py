"""An agent makes 20 turns over a chain of vendors, whose failing targets change at each turn; receipts explain every turn.

The turns have parallel tool calls, images and reasoning. The history of one vendor goes to the next one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from providers.local import weights
from tests.faults.upstream_server import Exchange, FaultUpstream, canned, status
from tests.flows.conftest import RECEIPT, events
from tests.flows.live import eventually, live
from tests.flows.receipt_check import root, unreported
from tests.providers.strict_messages import message_objections
from tests.support.plain_http import WITHOUT_AUTHORITIES

TURNS = 20
CHAIN = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash", "groq": "openai/gpt-oss-120b", "llamacpp": "local"}
ENGINE = {"local": "smollm2-135m-instruct"}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
    for name in ("get_weather", "get_time")
]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def failing(turn: int) -> set[str]:
    """Return the targets that fail in a turn: the first zero to three of the chain, so that each target answers every fourth turn."""
    return set(list(CHAIN)[: turn % 4])


def config(up: FaultUpstream, *, engine: bool = False) -> str:
    more = 'api_key: "${K}", cooldown: { failures: 1000 }'
    targets = {**{kind: model for kind, model in CHAIN.items() if kind != "llamacpp"}, **ENGINE} if engine else CHAIN
    lines = "\n".join(f'  {kind}: {{ base_url: "{up.origin}/{kind}/v1", {more} }}' for kind in targets if kind != "local")
    lines += "\n  local: { context: 8192, slots: 1 }" if engine else ""
    chain = ", ".join(f"{kind}/{model}" for kind, model in targets.items())
    return f"retry_budget: 1\nproviders:\n{lines}\nmodels:\n  agent: {{ targets: [{chain}], attempts: 4 }}\n"


def calls(turn: int) -> list[dict[str, Any]]:
    return [
        {"id": f"call_{turn}_{name}", "type": "function", "function": {"name": name, "arguments": json.dumps({"city": "Bern"})}}
        for name in ("get_weather", "get_time")
    ]


def answer(kind: str, turn: int) -> dict[str, Any]:
    """Return a vendor's answer: reasoning, and two calls unless it is the last turn."""
    last = turn == TURNS - 1
    if kind == "anthropic":
        content: list[dict[str, Any]] = [{"type": "thinking", "thinking": f"thought {turn}", "signature": f"sig{turn}"}]
        content += [{"type": "text", "text": f"turn {turn}"}]
        content += [] if last else [
            {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": {"city": "Bern"}} for call in calls(turn)
        ]  # fmt: skip
        usage = {"input_tokens": 9, "output_tokens": 5}
        reason = "end_turn" if last else "tool_use"
        return {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": content, "stop_reason": reason, "usage": usage}
    message: dict[str, Any] = {"role": "assistant", "content": f"turn {turn}"}
    if kind == "groq":
        message["reasoning"] = f"thought {turn}"
    if kind == "llamacpp":
        message["reasoning_content"] = f"thought {turn}"
    if not last:
        message["tool_calls"] = calls(turn)
        if kind == "gemini":
            message["tool_calls"][0]["extra_content"] = {"google": {"thought_signature": f"sig{turn}"}}
    choice = {"index": 0, "message": message, "finish_reason": "stop" if last else "tool_calls"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}


def anthropic_events(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events in which Anthropic streams an answer."""
    yield {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}
    for index, block in enumerate(whole["content"]):
        kind = block["type"]
        empty = {"thinking": {"thinking": "", "signature": ""}, "text": {"text": ""}, "tool_use": {**block, "input": {}}}[kind]
        yield {"type": "content_block_start", "index": index, "content_block": {"type": kind, **empty}}
        deltas: list[dict[str, Any]] = [{"type": f"{kind}_delta", kind: block.get(kind)}]
        if kind == "thinking":
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        if kind == "tool_use":
            text = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in (text[:4], text[4:])]
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"]}, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


def openai_chunks(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the chunks in which a vendor with OpenAI's format streams an answer."""
    choice = whole["choices"][0]
    message = dict(choice["message"])
    called = message.pop("tool_calls", [])
    deltas = [{"role": "assistant"}, *({name: value} for name, value in message.items() if name != "role")]
    deltas += [{"tool_calls": [{"index": index, **call}]} for index, call in enumerate(called)]
    for delta in deltas:
        yield {**whole, "object": "chat.completion.chunk", "usage": None, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    end = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
    yield {**whole, "object": "chat.completion.chunk", "choices": [end]}


def streamed(kind: str, turn: int) -> bytes:
    whole = answer(kind, turn)
    if kind == "anthropic":
        return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in anthropic_events(whole))
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in openai_chunks(whole)) + b"data: [DONE]\n\n"


def assembled(text: str) -> dict[str, Any]:
    """Return a stream as one answer: texts are joined, and calls are identified by their index."""
    chunks = [json.loads(event) for event in events(text)[:-1]]
    assert events(text)[-1] == "[DONE]"
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    message: dict[str, Any] = {}
    called: dict[int, dict[str, Any]] = {}
    for delta in (choice["delta"] for choice in choices):
        for part in delta.get("tool_calls") or ():
            known = called.setdefault(part["index"], {"function": {"name": "", "arguments": ""}})
            known.update({name: value for name, value in part.items() if name not in ("index", "function") and value is not None})
            for name, value in part.get("function", {}).items():
                known["function"][name] += value or ""
        for name, value in delta.items():
            if name == "role" or value is None or name == "tool_calls":
                continue
            message[name] = message[name] + value if name in message else value
    if called:
        message["tool_calls"] = [called[index] for index in sorted(called)]
    finish = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    assert len(finish) == 1, text
    receipts = [chunk["gateway"] for chunk in chunks if "gateway" in chunk]
    whole = {"role": "assistant", "content": None, **message}
    return {"choices": [{"message": whole, "finish_reason": finish[0]}], "gateway": receipts[-1]}


class Agent:
    """Runs tools, and keeps the history with the answers as they were received."""

    def __init__(self, client: httpx.AsyncClient, up: FaultUpstream, *, stream: bool = False) -> None:
        self.client = client
        self.up = up
        self.stream = stream
        self.max_tokens = 4000
        self.images = True
        self.refused: list[str] = []
        self.turn = 0
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": "Use the tools."}]
        up.on(lambda request: True, self._serve)

    async def _serve(self, exchange: Exchange) -> None:
        kind = exchange.request.path.split("/")[1]
        reasons = message_objections(kind, exchange.request.json, CHAIN[kind])
        self.refused += [f"{kind} in turn {self.turn}: {reason}" for reason in reasons]
        if reasons:
            await status(400, reasons[0])(exchange)
        elif kind in failing(self.turn):
            await status(500, f"{kind} is down")(exchange)
        elif self.stream:
            await canned(streamed(kind, self.turn), headers={"content-type": "text/event-stream"})(exchange)
        else:
            await canned(json.dumps(answer(kind, self.turn)).encode())(exchange)

    async def step(self) -> dict[str, Any]:
        """Take one turn. Return its receipt after comparing it with what each target got."""
        self.up.ledger.requests.clear()
        body: dict[str, Any] = {"model": "agent", "messages": self.messages, "tools": TOOLS, "reasoning_effort": "low"}
        body["max_tokens"] = self.max_tokens
        if self.stream:
            body["stream"] = True
        source = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        response = await self.client.post("/chat/completions", content=source, headers={"content-type": "application/json", **RECEIPT})
        assert response.status_code == 200, f"turn {self.turn}: {response.text}"
        whole = assembled(response.text) if self.stream else response.json()
        receipt: dict[str, Any] = whole["gateway"]
        remote = [attempt for attempt in receipt["attempts"] if not attempt["target"].startswith("local/")]
        assert self.refused == []
        for attempt, request in zip(remote, self.up.requests, strict=True):
            made = receipt["adjustments"] if attempt is receipt["attempts"][-1] else attempt.get("adjustments", [])
            assert list(unreported(source, {}, request, made)) == [], json.dumps([self.turn, made])
        message = whole["choices"][0]["message"]
        self.messages.append(message)
        self.answered = whole["choices"][0]
        self.messages += [{"role": "tool", "tool_call_id": call["id"], "content": "sunny"} for call in message.get("tool_calls") or ()]
        if self.turn % 5 == 2 and self.images:
            self.messages.append({"role": "user", "content": [{"type": "text", "text": "And this?"}, IMAGE]})
        return receipt


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_an_agent_completes_although_another_target_fails_at_each_turn(up: FaultUpstream, stream: bool) -> None:
    async with (
        live(config(up), environ={"K": "k"}) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url, timeout=30) as client,
    ):
        agent = Agent(client, up, stream=stream)
        agent.messages.append({"role": "user", "content": [{"type": "text", "text": "Plan a trip."}, IMAGE]})
        for agent.turn in range(TURNS):
            receipt = await agent.step()
            names = list(CHAIN)[: agent.turn % 4 + 1]
            assert [attempt["target"].partition("/")[0] for attempt in receipt["attempts"]] == names
            assert [attempt["outcome"] for attempt in receipt["attempts"]] == ["500"] * (len(names) - 1) + ["ok"]
    answers = [message for message in agent.messages if message["role"] == "assistant"]
    assert [message["content"] for message in answers] == [f"turn {turn}" for turn in range(TURNS)]
    assert sum(len(message.get("tool_calls") or ()) for message in answers) == 2 * (TURNS - 1)


@pytest.mark.parametrize("turn", range(4))
async def test_each_vendor_gets_its_own_reasoning_back_and_every_tool_result(up: FaultUpstream, turn: int) -> None:
    async with (
        live(config(up), environ={"K": "k"}) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url, timeout=30) as client,
    ):
        agent = Agent(client, up)
        agent.messages.append({"role": "user", "content": "Plan a trip."})
        for agent.turn in (turn, turn + 4):
            await agent.step()
        sent = up.requests[-1].json["messages"]
    text = json.dumps(sent)
    assert text.count("sunny") == 2
    kind = list(CHAIN)[turn]
    if kind in ("anthropic", "gemini"):
        assert f"sig{turn}" in text


@pytest.mark.prove
@pytest.mark.timeout(180)
async def test_an_agent_completes_with_the_embedded_engine_as_its_last_target(up: FaultUpstream) -> None:
    await asyncio.to_thread(weights.pull, report=lambda line: None)
    async with (
        live(config(up, engine=True), environ={"K": "k"}) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url, timeout=120) as client,
    ):
        await eventually(lambda: gateway.gateway.generation.engines["local"].state == "ready", 60)
        agent = Agent(client, up)
        agent.max_tokens = 24
        agent.messages.append({"role": "user", "content": [{"type": "text", "text": "Plan a trip."}]})
        for agent.turn in range(TURNS):
            agent.stream = agent.turn // 4 % 2 == 1
            receipt = await agent.step()
            outcomes = [(attempt["target"].partition("/")[0], attempt["outcome"]) for attempt in receipt["attempts"]]
            names = [*list(CHAIN)[:3], "local"][: agent.turn % 4 + 1]
            assert outcomes == [*((name, "500") for name in names[:-1]), (names[-1], "ok")]
            message = agent.answered["message"]
            assert message["role"] == "assistant"
            if names[-1] == "local":
                assert agent.answered["finish_reason"] in ("stop", "length", "tool_calls")
                assert message.get("content") or message.get("tool_calls")
                assert {root(each["param"]) for each in receipt["adjustments"]} >= {"messages", "reasoning_effort"}, receipt["adjustments"]
            if not message.get("tool_calls"):
                agent.messages.append({"role": "user", "content": "Go on."})
    called = [len(message.get("tool_calls") or ()) for message in agent.messages if message["role"] == "assistant"]
    assert [count for turn, count in enumerate(called) if turn % 4 != 3] == [2] * 15
