"""Properties of any combination of parameters, checked with random requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.parameters import check_parameters
from gateway.errors import BadRequest
from providers.base import LOSSY, Adjustment, Body, Options, Refusal
from providers.rules.fan_out import fan_out
from providers.rules.rule import is_neutral
from tests.providers.cases import target_of
from tests.providers.everything import EVERYTHING, WEATHER
from tests.providers.strict import objections
from tests.providers.test_strict_servers import MODELS, SERVERS, SETTINGS
from tests.support.search import examples

OTHERS: dict[str, list[Any]] = {
    "temperature": [0, 1, -1, 5.5, None],
    "top_p": [0, 1, 0.5, 7, None],
    "top_k": [0, 5, 10_000],
    "min_p": [0, 2.0],
    "typical_p": [1, 3],
    "n": [1, 3],
    "seed": [0, [1, 2, 3], None],
    "stop": ["x", [], None, ["a", "b"]],
    "logprobs": [False, True],
    "top_logprobs": [0, 1, 20],
    "frequency_penalty": [0, -9, 9, 0.5],
    "presence_penalty": [0, -9, 9, None],
    "repetition_penalty": [1, 0.1, 9],
    "logit_bias": [{}, {"1": -500}],
    "response_format": [{"type": "text"}, {"type": "json_object"}, None],
    "tools": [[], [WEATHER, WEATHER]],
    "tool_choice": ["auto", "none", {"type": "function", "function": {"name": "get_weather"}}],
    "parallel_tool_calls": [False],
    "reasoning_effort": ["none", "minimal", "low", "medium", "high", "xhigh", "odd"],
    "service_tier": ["auto", "flex", "odd"],
    "max_tokens": [1, 3000],
    "min_tokens": [0, 5],
    "stream_options": [{}, {"include_usage": False}],
    "context_length_exceeded_behavior": ["error"],
    "thinking": [{"type": "disabled"}],
    "user": ["u", "zoë"],
    "system_prompt": [""],
    "disable_reasoning": [False],
    "stream": [True, False],
}
SEARCH = settings(max_examples=examples(40))
_NAMES = sorted({*EVERYTHING, *OTHERS} - {"messages"})


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a request of some parameters, each with one of its values."""
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=9))
    result = {"model": "m", "messages": EVERYTHING["messages"] if draw(st.booleans()) else [{"role": "user", "content": "Hi"}]}
    for name in names:
        choices = OTHERS.get(name, [])
        result[name] = draw(st.sampled_from([*choices, EVERYTHING[name]] if name in EVERYTHING else choices))
    return result


def _adapt(server: str, request: dict[str, Any], *, strict: bool) -> tuple[list[dict[str, Any]], list[Adjustment]] | None:
    """Return the bodies sent and the adjustments. None if the request is refused."""
    kind = {"openai_reasoning": "openai"}.get(server, server)
    target = target_of(kind, MODELS.get(server, "example"), SETTINGS.get(server))
    body = Body(json.dumps(request).encode())
    options = Options(strict=strict, stream=request.get("stream") is True)
    try:
        check_parameters(body)
        adjustments = target.kind.adapt(body, target, options)
    except (Refusal, BadRequest) as refused:
        return None if refused.param and refused.message else pytest.fail("a refusal names its parameter and says why")
    calls = next((adjustment.from_ for adjustment in adjustments if adjustment.action == "fan_out"), 1)
    return [json.loads(target.kind.encode(item, target, options).body) for item in fan_out(body, calls)], adjustments


@pytest.mark.parametrize("server", SERVERS)
@SEARCH
@given(request=requests())
def test_upstream_server_accepts_every_adapted_request(server: str, request: dict[str, Any]) -> None:
    for strict in (False, True):
        result = _adapt(server, request, strict=strict)
        for body in result[0] if result else ():
            assert list(objections(server, body)) == []


@pytest.mark.parametrize("server", SERVERS)
@SEARCH
@given(request=requests())
def test_every_dropped_parameter_is_reported(server: str, request: dict[str, Any]) -> None:
    result = _adapt(server, request, strict=False)
    if result is None:
        return
    reported = {item.param for item in result[1]}
    for name, value in request.items():
        if name not in ("messages", "stream") and value is not None and name not in result[0][0]:
            assert name in reported, f"{name} was lost"


@pytest.mark.parametrize("server", SERVERS)
@SEARCH
@given(request=requests())
def test_strict_mode_drops_only_neutral_values(server: str, request: dict[str, Any]) -> None:
    result = _adapt(server, request, strict=True)
    for item in result[1] if result else ():
        if item.action in LOSSY:
            assert is_neutral(item.param, request.get(item.param)) or item.why in _HARMLESS or item.why.startswith("same value"), item


_HARMLESS = {
    "neutral value",
    "there are no tools",
    "equals the default",
    "auto is the default",
    "the provider returns only text",
    "text is the default",
    "there are no functions",
    "the upstream rejects an empty list",
    "metadata.user_id is set already",
    "the upstream always reports usage and has no such field",
}
"""Reasons to drop a parameter without losing anything."""
