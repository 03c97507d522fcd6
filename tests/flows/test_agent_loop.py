"""An agent of 20 turns over a chain of vendors in which another target fails at each turn; its receipts explain every turn.

The turns have parallel tool calls, images and reasoning. The history of one vendor goes to the next one.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import Exchange, FaultUpstream, canned, status
from tests.flows.conftest import RECEIPT
from tests.flows.live import live
from tests.flows.receipt_check import unreported
from tests.support.plain_http import WITHOUT_AUTHORITIES

TURNS = 20
CHAIN = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash", "groq": "openai/gpt-oss-120b", "llamacpp": "local"}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
    for name in ("get_weather", "get_time")
]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def failing(turn: int) -> set[str]:
    """Return the targets that fail in a turn, so that each of the first three answers in its turn, and then the last one."""
    return set(list(CHAIN)[: turn % 4])


def config(up: FaultUpstream) -> str:
    more = 'api_key: "${K}", cooldown: { failures: 1000 }'
    lines = "\n".join(f'  {kind}: {{ base_url: "{up.origin}/{kind}/v1", {more} }}' for kind in CHAIN)
    chain = ", ".join(f"{kind}/{model}" for kind, model in CHAIN.items())
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


class Agent:
    """Runs tools and keeps the history as it was answered."""

    def __init__(self, client: httpx.AsyncClient, up: FaultUpstream) -> None:
        self.client = client
        self.up = up
        self.turn = 0
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": "Use the tools."}]
        up.on(lambda request: True, self._serve)

    async def _serve(self, exchange: Exchange) -> None:
        kind = exchange.request.path.split("/")[1]
        if kind in failing(self.turn):
            await status(500, f"{kind} is down")(exchange)
        else:
            await canned(json.dumps(answer(kind, self.turn)).encode())(exchange)

    async def step(self) -> dict[str, Any]:
        """Take one turn. Return its receipt after comparing it with what each target got."""
        self.up.ledger.requests.clear()
        body = {"model": "agent", "messages": self.messages, "tools": TOOLS, "reasoning_effort": "low", "max_tokens": 4000}
        source = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        response = await self.client.post("/chat/completions", content=source, headers={"content-type": "application/json", **RECEIPT})
        assert response.status_code == 200, (self.turn, response.text)
        whole = response.json()
        receipt: dict[str, Any] = whole["gateway"]
        for attempt, request in zip(receipt["attempts"], self.up.requests, strict=True):
            made = receipt["adjustments"] if attempt is receipt["attempts"][-1] else attempt.get("adjustments", [])
            assert list(unreported(source, {}, request, made)) == [], json.dumps([self.turn, made])
        message = whole["choices"][0]["message"]
        self.messages.append(message)
        self.messages += [{"role": "tool", "tool_call_id": call["id"], "content": "sunny"} for call in message.get("tool_calls") or ()]
        if self.turn % 5 == 2:
            self.messages.append({"role": "user", "content": [{"type": "text", "text": "And this?"}, IMAGE]})
        return receipt


async def test_an_agent_completes_although_another_target_fails_at_each_turn(up: FaultUpstream) -> None:
    async with (
        live(config(up), environ={"K": "k"}) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url, timeout=30) as client,
    ):
        agent = Agent(client, up)
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
