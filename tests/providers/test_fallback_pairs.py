"""A conversation that one vendor began continues at any other one over HTTP when the first one fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

import providers
from tests.flows.live import Live, live
from tests.providers.server import Reply, Request, Upstream, json_reply
from tests.providers.strict_messages import message_objections
from tests.providers.test_conversations import MODELS, conversation, is_refused
from tests.providers.wires import good_reply
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.search import every

VENDORS = sorted(set(providers.types()) - {"local"})
BASES = {"azure": "https://azure.test/openai/v1"}
SETTINGS = {"azure": ", base_model: gpt-4.1"}
PAIRS = [(first, second) for first in VENDORS for second in VENDORS if first != second]
RECEIPT = {"x-gateway-receipt": "body"}


def config(url: str) -> str:
    """Return the configuration of a gateway with a model for each pair of vendors."""
    lines = ["retry_budget: 1", "providers:"]
    for kind in VENDORS:
        path = urlsplit(BASES.get(kind) or providers.get(kind).default_base_url or "http://compatible.test/v1").path.rstrip("/")
        settings = f'api_key: "${{K}}", base_url: "{url}/{kind}{path}", cooldown: {{ failures: 1000, rate: 100% }}{SETTINGS.get(kind, "")}'
        lines.append(f"  {kind}-up: {{ type: {kind}, {settings} }}")
    lines.append("models:")
    names = {kind: f"{kind}-up/{MODELS.get(kind, 'example')}" for kind in VENDORS}
    for first in VENDORS:
        lines += [f"  {first}.{second}: [{names[first]}, {names[second]}]" for second in VENDORS if second != first]
    return "\n".join(lines)


class Vendors:
    """The servers of all vendors. One of them is down; the others refuse the requests that their vendors refuse."""

    def __init__(self) -> None:
        self.down = ""
        self.refused: list[str] = []

    def answer(self, request: Request) -> Reply:
        """Answer as the vendor in the path."""
        kind = request.path.split("/")[1]
        if kind == self.down:
            return json_reply({"error": {"message": "down", "type": "server_error"}}, 503)
        reasons = message_objections(kind, request.body, MODELS.get(kind, "example"))
        if reasons:
            self.refused += [f"{kind}: {reason}" for reason in reasons]
            return json_reply({"error": {"message": reasons[0], "type": "invalid_request_error"}}, 400)
        return good_reply(kind, request)


@pytest.fixture
def vendors() -> Iterator[tuple[Vendors, Upstream]]:
    """Yield all vendors, and the one server that they share."""
    state = Vendors()
    upstream = Upstream(state.answer)
    yield state, upstream
    upstream.close()


@pytest.fixture
async def serving(vendors: tuple[Vendors, Upstream]) -> AsyncIterator[Live]:
    """Yield a gateway in front of all vendors."""
    async with live(config(vendors[1].url), environ={"K": "k"}) as gateway:
        yield gateway


async def go_on(client: httpx.AsyncClient, first: str, second: str, task: str, *, stream: bool) -> str | None:
    """Continue a conversation that `first` began, while `first` is down and `second` is next. Return the fault of the answer, or None."""
    request = {**conversation(first, task), "model": f"{first}.{second}", "stream": stream}
    response = await client.post("/chat/completions", json=request, headers=RECEIPT)
    if stream and response.status_code == 200:
        events = [line[6:] for line in response.text.split("\n") if line.startswith("data: ")]
        chunks = [json.loads(event) for event in events[:-1]]
        receipt = next(chunk["gateway"] for chunk in reversed(chunks) if "gateway" in chunk)
        said = any(choice["delta"].get("content") or choice["delta"].get("tool_calls") for chunk in chunks for choice in chunk["choices"])
        complete = events[-1] == "[DONE]" and said
    else:
        whole: dict[str, Any] = response.json()
        receipt = whole["gateway"]
        message = whole["choices"][0]["message"] if "choices" in whole else {}
        complete = bool(message.get("content") or message.get("tool_calls"))
    if is_refused(second, task):
        skipped = [each["target"].split("-up/")[0] for each in receipt.get("skipped", [])]
        return None if second in skipped and response.status_code >= 400 else f"{second} is not listed as skipped: {receipt}"
    outcomes = [attempt["outcome"] for attempt in receipt["attempts"]]
    expected = ["ok"] if is_refused(first, task) else ["503", "ok"]
    if response.status_code != 200 or not complete or outcomes != expected:
        return f"{response.status_code} {outcomes} {response.text[:300]}"
    return None


async def check_pairs(serving: Live, vendors: Vendors, task: str, streams: tuple[bool, ...], pairs: list[tuple[str, str]]) -> None:
    wrong: list[str] = []
    async with httpx.AsyncClient(base_url=serving.base_url, verify=WITHOUT_AUTHORITIES, timeout=30) as client:
        for number, (first, second) in enumerate(pairs):
            vendors.down = first
            for stream in streams or (number % 2 == 1,):
                problem = await go_on(client, first, second, task, stream=stream)
                if problem is not None:
                    wrong.append(f"{first} -> {second}, stream={stream}: {problem}")
    assert wrong == []
    assert vendors.refused == []


@pytest.mark.search
async def test_a_conversation_with_tools_is_continued_at_every_other_vendor(serving: Live, vendors: tuple[Vendors, Upstream]) -> None:
    await check_pairs(serving, vendors[0], "tools", (), every(PAIRS, 7))


@pytest.mark.prove
@pytest.mark.parametrize("task", ["text", "tools", "image", "custom", "image result", "two results"])
async def test_every_kind_of_conversation_is_continued_at_every_other_vendor(
    serving: Live, vendors: tuple[Vendors, Upstream], task: str
) -> None:
    await check_pairs(serving, vendors[0], task, (False, True), PAIRS)
