"""Request headers of callers through the gateway: vendors' headers, trace context, unknown gateway headers, credentials."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, receipt_of
from tests.flows.live import live
from tests.support.plain_http import WITHOUT_AUTHORITIES

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = {"traceparent": PARENT, "tracestate": "vendor=1,other=2", "baggage": "tenant=a,user=b"}
NOT_SENT = {
    "cookie": "session=secret-1", "authorization": "Bearer secret-2", "x-api-key": "secret-3", "api-key": "secret-4",
    "x-goog-api-key": "secret-5", "proxy-authorization": "Basic secret-6", "x-forwarded-for": "10.0.0.1",
    "referer": "https://secret-8", "x-private": "secret-9",
}  # fmt: skip


def config(up: FaultUpstream, rest: str = "") -> str:
    kinds = ("fireworks", "cerebras", "openai", "anthropic", "groq", "vllm")
    lines = "\n".join(f'  {kind}: {{ base_url: "{up.base_url}", api_key: "${{K}}" }}' for kind in kinds)
    return f"""
providers:
{lines}
  mine: {{ type: openai-compatible, base_url: "{up.base_url}", forward_headers: [X-Tenant] }}
models:
{"".join(f"  {kind}: {kind}/x{chr(10)}" for kind in (*kinds, "mine"))}{rest}"""


class Session:
    """A client of one gateway with a recording upstream."""

    def __init__(self, client: httpx.AsyncClient, up: FaultUpstream) -> None:
        self.client = client
        self.up = up

    async def ask(self, model: str, headers: dict[str, str], **more: Any) -> httpx.Response:
        return await self.client.post("/chat/completions", json=chat(model, **more), headers=headers)

    def last(self, name: str) -> str | None:
        return self.up.requests[-1].header(name.lower())


@pytest.fixture
async def session() -> Any:
    async with (
        FaultUpstream() as up,
        live(config(up), environ={"K": "k"}) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url) as client,
    ):
        yield Session(client, up)


@pytest.mark.parametrize(("model", "name", "value"), [
    ("fireworks", "x-session-affinity", "s-1"), ("fireworks", "x-multi-turn-session-id", "s-2"), ("cerebras", "queue_threshold", "500"),
    ("cerebras", "X-Cerebras-Version-Patch", "2"), ("openai", "OpenAI-Organization", "org-1"), ("groq", "Groq-Model-Version", "latest"),
])  # fmt: skip
async def test_a_vendors_header_reaches_its_vendor_and_no_other(session: Session, model: str, name: str, value: str) -> None:
    for stream in (False, True):
        answer = await session.ask(model, {name: value, "x-gateway-strict": "true"}, stream=stream)
        assert (answer.status_code, session.last(name)) == (200, value), answer.text
        assert name.lower() not in answer.headers.get("x-gateway-adjusted", "")
        other = await session.ask("vllm", {name: value, "x-gateway-receipt": "body"}, stream=stream)
        assert (other.status_code, session.last(name)) == (200, None)
        assert (name.lower(), "drop") in [(one["param"], one["action"]) for one in receipt_of(other)["adjustments"]]
        assert f'"{name.lower()}";drop' in other.headers["x-gateway-adjusted"]
        count = len(session.up.requests)
        refused = await session.ask("vllm", {name: value, "x-gateway-strict": "1"}, stream=stream)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, name.lower())
        assert len(session.up.requests) == count


async def test_require_parameters_counts_headers(session: Session) -> None:
    answer = await session.ask("vllm", {"x-session-affinity": "s", "x-gateway-require-parameters": "true"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-session-affinity")


async def test_headers_of_the_setting_are_forwarded(session: Session) -> None:
    await session.ask("mine", {"x-tenant": "t", "x-private": "p"})
    assert (session.last("x-tenant"), session.last("x-private")) == ("t", None)


@pytest.mark.parametrize("name", ["x-gateway-strickt", "x-gateway-foo", "X-Gateway-Recipt"])
async def test_an_unknown_gateway_header_is_a_400_everywhere(session: Session, name: str) -> None:
    for path in ("/chat/completions", "/explain"):
        answer = await session.client.post(path, json=chat("vllm"), headers={name: "1"})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["type"]) == (400, name.lower(), "invalid_request_error")
    assert session.up.requests == []


@pytest.mark.parametrize("model", ["openai", "anthropic", "mine", "cerebras"])
async def test_trace_context_is_forwarded_without_traces(session: Session, model: str) -> None:
    await session.ask(model, TRACE)
    assert {name: session.last(name) for name in TRACE} == TRACE
    await session.ask(model, {})
    assert {session.last(name) for name in TRACE} == {None}


async def test_credentials_of_the_caller_are_not_forwarded(session: Session) -> None:
    for model in ("openai", "anthropic", "mine", "cerebras"):
        await session.ask(model, NOT_SENT)
        assert b"secret-" not in session.up.requests[-1].head
        assert session.last("x-forwarded-for") is None


async def test_headers_reach_every_request_of_a_fan_out() -> None:
    async with FaultUpstream() as up:
        yaml = f"""
providers:
  siati: {{ base_url: "{up.base_url}", api_key: "${{K}}" }}
models:
  several: siati/x
"""
        async with (
            live(yaml, environ={"K": "k"}) as gateway,
            httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url) as client,
        ):
            sent = {"x-siati-tier": "fast", "anthropic-beta": "b", **TRACE}
            answer = await client.post("/chat/completions", json=chat("several", n=3), headers=sent)
            assert answer.status_code == 200, answer.text
            assert [request.header("x-siati-tier") for request in up.requests] == ["fast"] * 3
            assert [request.header("traceparent") for request in up.requests] == [PARENT] * 3
