"""Receipts report the facts: seeds, stops, usage, account ids, failed attempts, refusals of content."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.faults.behaviours import sse
from tests.faults.upstream_server import FaultUpstream, canned, status
from tests.flows.conftest import RECEIPT, chat, receipt_of
from tests.flows.live import live
from tests.support.plain_http import WITHOUT_AUTHORITIES

STRICT = {"x-gateway-strict": "true", **RECEIPT}


def config(up: FaultUpstream, **models: str) -> str:
    kinds = sorted({target.partition("/")[0] for route in models.values() for target in route.strip("[]").split(", ")})
    lines = "\n".join(f'  {kind}: {{ base_url: "{up.base_url}", api_key: "${{K}}" }}' for kind in kinds)
    routes = "\n".join(f"  {name}: {route}" for name, route in models.items())
    return f"providers:\n{lines}\nmodels:\n{routes}\n"


async def ask(up: FaultUpstream, target: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """Serve one call for a target or a route."""
    async with (
        live(config(up, m=target), environ={"K": "k"}) as gateway,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.base_url) as client,
    ):
        return await client.post("/chat/completions", json=chat("m", **more), headers=headers or RECEIPT)


def reported(receipt: dict[str, Any], param: str) -> list[tuple[Any, ...]]:
    found = [each for each in receipt["adjustments"] if each["param"] == param]
    return [(each["action"], each.get("from"), each.get("to")) for each in found]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("target", ["openai/gpt-6", "xai/grok-4"])
async def test_stops_of_a_model_without_them_are_enforced_here_in_strict_mode_too(up: FaultUpstream, target: str, stream: bool) -> None:
    answer = await ask(up, target, STRICT, stop=["w2"], stream=stream)
    receipt = receipt_of(answer)
    assert ([action for action, *_ in reported(receipt, "stop")], receipt["stop_matched"]) == (["enforce_locally"], "w2")
    assert "stop" not in up.requests[0].json


async def test_stops_beyond_a_limit_are_enforced_here_in_strict_mode_too(up: FaultUpstream) -> None:
    receipt = receipt_of(await ask(up, "openai/gpt-4o", STRICT, stop=["a1", "a2", "a3", "a4", "w2"]))
    assert (reported(receipt, "stop"), receipt["stop_matched"]) == ([("enforce_locally", 5, 4)], "w2")


@pytest.mark.parametrize(("seed", "sent", "before"), [(7, [7, 8, 9], 7), ([4, 4, 1], [4, 4, 1], [4, 4, 1]), (-1, [-1, 0, 1], -1)])
@pytest.mark.parametrize("target", ["siati/x", "goodfire/x", "cohere/command"])
async def test_each_seed_of_a_fan_out_is_in_the_receipt(target: str, seed: Any, sent: list[int], before: Any) -> None:
    async with FaultUpstream() as up:
        answer = await ask(up, target, n=3, seed=seed, stream=False)
        assert sorted(request.json["seed"] for request in up.requests) == sorted(sent)
        if answer.status_code == 200:
            assert ("reshape", before, sent) in reported(receipt_of(answer), "seed")


async def test_a_default_seed_that_is_counted_up_is_in_the_receipt(up: FaultUpstream) -> None:
    receipt = receipt_of(await ask(up, "goodfire/x", n=2))
    assert reported(receipt, "seed") == [("set_default", None, 42), ("reshape", 42, [42, 43])]
    assert sorted(request.json["seed"] for request in up.requests) == [42, 43]


@pytest.mark.parametrize("target", ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "groq/x", "vllm/x", "openai-compatible/x", "siati/x"])
async def test_an_account_id_reaches_no_other_vendor(up: FaultUpstream, target: str) -> None:
    up.on("/v1/messages", canned(b'{"id":"m","type":"message","role":"assistant","content":[],"usage":{},"stop_reason":"end_turn"}'))
    answer = await ask(up, target, team="team-secret")
    assert [action for action, *_ in reported(receipt_of(answer), "team")] == ["drop"], answer.text
    assert b"team-secret" not in up.requests[0].head + up.requests[0].body
    refused = await ask(up, target, STRICT, team="team-secret")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "team")


@pytest.mark.parametrize("low", ["min_tokens", "min_completion_tokens"])
@pytest.mark.parametrize("high", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("target", ["vllm/x", "cerebras/x", "friendli/x", "openai/gpt-4o"])
async def test_a_minimum_above_the_maximum_is_refused(target: str, low: str, high: str) -> None:
    async with FaultUpstream() as up:
        answer = await ask(up, target, **{low: 80, high: 50})
        assert (answer.status_code, answer.json()["error"]["param"], up.requests) == (400, low, [])


@pytest.mark.parametrize("value", ["abc", "", [1], True])
async def test_a_delay_that_is_not_a_number_is_refused(up: FaultUpstream, value: Any) -> None:
    answer = await ask(up, "cerebras/x", x_delay_time=value)
    assert (answer.status_code, answer.json()["error"]["param"], up.requests) == (400, "x_delay_time", [])


@pytest.mark.parametrize(("value", "sent"), [(0.5, "0.5"), (1234567, "1234567"), (1234567.5, "1234567.5")])
async def test_a_delay_is_sent_as_it_is(up: FaultUpstream, value: float, sent: str) -> None:
    await ask(up, "cerebras/x", x_delay_time=value)
    assert up.requests[0].header("x-delay-time") == sent


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("target", ["fireworks/x", "openai/gpt-4o", "vllm/x"])
async def test_a_stop_string_that_the_gateway_removes_is_reported(up: FaultUpstream, target: str, stream: bool) -> None:
    receipt = receipt_of(await ask(up, target, stop=["w3"], stream=stream))
    assert ([action for action, *_ in reported(receipt, "stop")], receipt["stop_matched"]) == (["enforce_locally"], "w3")
    silent = receipt_of(await ask(up, target, stop=["never"], stream=stream))
    assert reported(silent, "stop") == []


@pytest.mark.parametrize(("asked", "told"), [(None, ["enforce_locally"]), (False, ["enforce_locally", "drop"]), (True, ["drop"])])
async def test_usage_that_is_hidden_is_reported(up: FaultUpstream, asked: bool | None, told: list[str]) -> None:
    more = {} if asked is None else {"stream_options": {"include_usage": asked}}
    answer = await ask(up, "fireworks/x", stream=True, **more)
    assert [action for action, *_ in reported(receipt_of(answer), "stream_options")] == told


async def test_a_failed_call_has_a_receipt_beside_its_error(up: FaultUpstream) -> None:
    up.on("/v1/chat/completions", status(500))
    answer = await ask(up, "[groq/x, openai/gpt-5]", temperature=0.5, top_k=3)
    body = answer.json()
    assert (answer.status_code, set(body)) == (502, {"error", "gateway"})
    receipt = body["gateway"]
    assert [attempt["target"] for attempt in receipt["attempts"]] == ["groq/x", "openai/gpt-5"]
    assert [each["param"] for each in receipt["attempts"][0]["adjustments"]] == ["top_k"]
    assert {each["param"] for each in receipt["adjustments"]} == {"top_k", "temperature"}
    plain = await ask(up, "groq/x", {"x-gateway-receipt": "header"})
    assert set(plain.json()) == {"error"}


async def test_a_refused_call_and_a_broken_stream_have_a_receipt(up: FaultUpstream) -> None:
    refused = await ask(up, "goodfire/x", STRICT, tools=[{"type": "function", "function": {"name": "f"}}])
    assert (refused.status_code, refused.json()["gateway"]["attempts"]) == (400, [])
    chunk = b'{"id":"c","object":"chat.completion.chunk","created":1,"model":"x","choices":[{"index":0,"delta":{"content":"a"}}]}'
    up.on("/v1/chat/completions", sse(chunk, b'{"error":{"message":"broken","type":"server_error"}}'))
    broken = await ask(up, "openai/gpt-4o", stream=True)
    last = [part for part in broken.text.split("\n\n") if part][-1]
    assert "error" in last
    assert '"gateway":{"request_id"' in last


CONTENT = [
    "Your request was flagged by our content policy.", "Input blocked by moderation.", "The prompt violates our usage guidelines: safety.",
    "Your account does not have access to model x.", "You do not have permission to use the specified resource.",
    "Country, region, or territory not supported in your location", "This model is not available on your plan.",
]  # fmt: skip
CREDENTIAL = ["Invalid API key.", "The token has expired", "Your API key is disabled", "Forbidden", "Authentication failed"]


@pytest.mark.parametrize("message", CONTENT)
async def test_a_403_about_content_or_permission_is_a_403(up: FaultUpstream, message: str) -> None:
    up.on("/v1/chat/completions", status(403, message, type="permission_error"))
    answer = await ask(up, "openrouter/x")
    assert (answer.status_code, answer.json()["error"]["message"]) == (403, message)
    fallback = await ask(up, "[openrouter/x, openai/gpt-4o]")
    assert [attempt["outcome"] for attempt in fallback.json()["gateway"]["attempts"]] == ["403", "403"]


@pytest.mark.parametrize("message", CREDENTIAL)
async def test_a_403_about_the_credential_is_the_operators_problem(up: FaultUpstream, message: str) -> None:
    up.on("/v1/chat/completions", status(403, message))
    answer = await ask(up, "openrouter/x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_auth_error")


@pytest.mark.parametrize("strict", [False, True])
async def test_reasoning_is_turned_off_at_together(up: FaultUpstream, strict: bool) -> None:
    answer = await ask(up, "together/x", STRICT if strict else RECEIPT, reasoning_effort="none")
    assert (answer.status_code, up.requests[0].json["reasoning"]) == (200, {"enabled": False})
    assert "reasoning_effort" not in up.requests[0].json
    assert [action for action, *_ in reported(receipt_of(answer), "reasoning_effort")] == ["reshape"]
