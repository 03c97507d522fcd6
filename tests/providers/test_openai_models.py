"""providers.openai: the parameters that each family of models accepts, alone and together."""

from __future__ import annotations

from typing import Any

import pytest

import providers
from providers.base import Refusal
from providers.responses_wire.models import REASONING_FAMILIES
from providers.rules.model_tables import ORDER, nearest_effort
from tests.providers.adapting import adapt
from tests.providers.everything import WEATHER
from tests.support.each import each

TOOLS: dict[str, Any] = {"tools": [WEATHER]}


@each("kind", ["openai", "azure"])
@each("model", ["gpt-5.4", "gpt-5.4-mini-2026-03-17", "gpt-5.5", "gpt-5.6-terra", "gpt-6-sol", "gpt-6.1-terra"])
@each("request_", [TOOLS, {"functions": [{"name": "f"}]}], ids=["tools", "functions"])
def test_model_that_takes_no_tools_while_it_reasons_stops_reasoning(kind: str, model: str, request_: dict[str, Any]) -> None:
    adapted = adapt(kind, {**request_, "reasoning_effort": "high", "temperature": 0.2}, model=model, upstream_api="chat")
    assert (adapted.sent["reasoning_effort"], adapted.sent["temperature"]) == ("none", 0.2)
    assert ("reasoning_effort", "clamp") in adapted.actions()
    with pytest.raises(Refusal) as caught:
        adapt(kind, {**request_, "reasoning_effort": "high"}, model=model, strict=True, upstream_api="chat")
    assert (caught.value.param, caught.value.code) == ("reasoning_effort", "unsupported_combination")
    assert adapt(kind, {**request_, "reasoning_effort": "none"}, model=model, strict=True).sent["reasoning_effort"] == "none"


@each(
    ("model", "sent"), [("gpt-5.5", "none"), ("gpt-5.6", "none"), ("gpt-6-luna", "none"), ("gpt-5.4", None), ("gpt-5", None)]
)
def test_default_effort_counts_as_reasoning(model: str, sent: str | None) -> None:
    adapted = adapt("openai", TOOLS, model=model, strict=True, upstream_api="chat")
    assert adapted.sent.get("reasoning_effort") == sent
    assert [action for param, action in adapted.actions() if param == "reasoning_effort"] == (["set_default"] if sent else [])


def test_model_that_always_reasons_and_takes_no_tools_refuses_them() -> None:
    with pytest.raises(Refusal) as caught:
        adapt("openai", TOOLS, model="gpt-6-astra", upstream_api="chat")
    assert caught.value.param == "tools"
    assert adapt("openai", {}, model="gpt-6-astra").adjustments == []


@each(
    ("model", "effort", "sent"),
    [
        ("gpt-5.1", "minimal", "low"),
        ("gpt-5.1", "xhigh", "high"),
        ("gpt-5.1", "max", "high"),
        ("gpt-5.2", "minimal", "low"),
        ("gpt-5.6", "minimal", "low"),
        ("gpt-5", "none", "minimal"),
        ("gpt-5-pro", "low", "high"),
        ("o3", "none", "low"),
        ("gpt-6-astra", "max", "xhigh"),
    ],
)
def test_effort_becomes_the_nearest_that_the_model_has(model: str, effort: str, sent: str) -> None:
    adapted = adapt("openai", {"reasoning_effort": effort}, model=model, upstream_api="chat")
    assert adapted.sent["reasoning_effort"] == sent
    assert adapted.actions() == [("reasoning_effort", "clamp")]
    with pytest.raises(Refusal):
        adapt("openai", {"reasoning_effort": effort}, model=model, strict=True, upstream_api="chat")


@each("family", REASONING_FAMILIES, ids=lambda family: family.prefix)
def test_every_effort_is_sent_as_one_that_the_family_has(family: Any) -> None:
    for effort in ORDER:
        sent = adapt("openai", {"reasoning_effort": effort}, model=family.prefix, upstream_api="chat").sent
        assert sent["reasoning_effort"] in family.efforts
        by_responses = adapt("openai", {"reasoning_effort": effort}, model=family.prefix, upstream_api="responses").sent
        assert by_responses["reasoning"]["effort"] in (*family.efforts, *(("max",) if family.max_effort else ()))
        assert nearest_effort(effort, family.efforts) in family.efforts
        assert effort == "none" or nearest_effort(effort, ("none", "high")) == "high"


@each("model", ["o1", "o3-mini", "o4-mini"])
@each("value", [True, False])
def test_o_series_gets_no_parallel_tool_calls(model: str, value: bool) -> None:
    adapted = adapt("openai", {**TOOLS, "parallel_tool_calls": value}, model=model)
    assert "parallel_tool_calls" not in adapted.sent
    assert ("parallel_tool_calls", "drop") in adapted.actions()
    with pytest.raises(Refusal):
        adapt("openai", {**TOOLS, "parallel_tool_calls": value}, model=model, strict=True)


CHAT_TYPES = [kind for kind in providers.OURS if kind != "local"]


@each("kind", CHAT_TYPES)
@each("request_", [{}, {"tools": []}, {"tools": None}], ids=["without tools", "no tools", "null tools"])
@each("value", [True, False, None])
def test_parallel_tool_calls_are_left_out_if_there_are_no_tools(kind: str, request_: dict[str, Any], value: bool | None) -> None:
    adapted = adapt(kind, {**request_, "parallel_tool_calls": value}, strict=True)
    assert "parallel_tool_calls" not in adapted.sent
    if value is not None:
        assert ("parallel_tool_calls", "drop") in adapted.actions()


@each("kind", CHAT_TYPES)
@each("choice", ["auto", "none"])
def test_a_choice_between_no_tools_is_left_out(kind: str, choice: str) -> None:
    adapted = adapt(kind, {"tools": [], "tool_choice": choice}, strict=True)
    assert not {"tools", "tool_choice"} & set(adapted.sent)
    assert ("tool_choice", "drop") in adapted.actions()
    adapted = adapt(kind, {"functions": [], "function_call": choice}, strict=True)
    assert not {"functions", "function_call"} & set(adapted.sent)
    assert ("function_call", "drop") in adapted.actions()


@each("model", ["gpt-4.1", "gpt-5"])
@each("kind", ["openai", "azure"])
def test_parallel_tool_calls_stay_beside_tools_and_functions_that_become_tools(kind: str, model: str) -> None:
    assert adapt(kind, {**TOOLS, "parallel_tool_calls": False}, model=model).sent["parallel_tool_calls"] is False
    adapted = adapt(kind, {"functions": [{"name": "f"}], "parallel_tool_calls": False}, model=model)
    assert ("parallel_tool_calls" in adapted.sent) == ("tools" in adapted.sent)


@each("kind", CHAT_TYPES)
@each("name", ["tools", "functions", "parallel_tool_calls", "tool_choice", "function_call"])
def test_null_means_not_given(kind: str, name: str) -> None:
    assert name not in adapt(kind, {name: None}, strict=True).sent


@each("kind", CHAT_TYPES)
@each(("stop", "left"), [("", []), ([""], []), (["", "x"], ["x"]), (["x", "", "y", ""], ["x", "y"])])
def test_empty_stop_strings_are_left_out(kind: str, stop: Any, left: list[str]) -> None:
    adapted = adapt(kind, {"stop": stop}, strict=True)
    sent = adapted.sent.get("stop") or adapted.sent.get("stop_sequences") or []
    assert ([sent] if isinstance(sent, str) else sent) == left or (kind == "goodfire" and not left)
    assert any(param == "stop" for param, _ in adapted.actions())


SAMPLING = {
    "temperature": 0.2, "top_p": 0.5, "frequency_penalty": 1, "presence_penalty": 1, "seed": 7, "logit_bias": {"1": 2}, "logprobs": True,
    "top_logprobs": 2, "reasoning_effort": "low",
}  # fmt: skip


@each("model", ["gpt-4o-search-preview", "gpt-4o-mini-search-preview-2025-03-11"])
@each("kind", ["openai", "azure"])
def test_search_model_gets_no_sampling_parameters(kind: str, model: str) -> None:
    options = {"web_search_options": {"search_context_size": "low"}}
    adapted = adapt(kind, {**SAMPLING, **options, "stop": ["x"], "n": 2}, model=model)
    assert set(adapted.sent) == {"model", "messages", "web_search_options"}
    assert {*SAMPLING, "stop", "n"} <= {param for param, _ in adapted.actions()}
    for name, value in SAMPLING.items():
        with pytest.raises(Refusal):
            adapt(kind, {"logprobs": True, name: value}, model=model, strict=True)


def test_search_options_are_kept_for_search_models_only() -> None:
    options = {"web_search_options": {"search_context_size": "low"}}
    assert adapt("openai", options, model="gpt-5-search-api-2025-10-14", strict=True).adjustments == []
    assert "web_search_options" not in adapt("openai", options, model="gpt-5").sent


@each(
    ("kind", "model"),
    [
        ("openai", "gpt-6"),
        ("openai", "o3"),
        ("azure", "gpt-5.1"),
        ("openai", "gpt-4o-search-preview"),
        ("xai", "grok-4.5"),
        ("xai", "grok-code"),
    ],
)
@each("stop", ["STOP", ["STOP", "END"]])
def test_stops_of_a_model_without_stop_are_enforced_by_the_gateway(kind: str, model: str, stop: Any) -> None:
    adapted = adapt(kind, {"stop": stop}, model=model, strict=True)
    assert "stop" not in adapted.sent
    assert adapted.actions() == [("stop", "enforce_locally")]


@each(
    ("model", "like"), [("gpt-5.7", "gpt-5.6"), ("gpt-6.2-sol", "gpt-6.1-terra"), ("gpt-7-nova", "gpt-6.1-terra"), ("o5-mini", "o4")]
)
def test_newer_model_is_treated_like_the_newest_of_its_family(model: str, like: str) -> None:
    request = {"reasoning_effort": "minimal", "temperature": 0.5, "max_tokens": 5}
    newer, known = adapt("openai", request, model=model), adapt("openai", request, model=like)
    assert {**newer.sent, "model": like} == known.sent
    warnings = [adjustment for adjustment in newer.adjustments if adjustment.action == "warn"]
    assert len(warnings) == 1
    assert like in warnings[0].why
    assert len(newer.adjustments) == len(known.adjustments) + 1


@each("family", REASONING_FAMILIES, ids=lambda family: family.prefix)
def test_known_model_is_not_called_newer(family: Any) -> None:
    assert adapt("openai", {}, model=family.prefix, upstream_api="chat").adjustments == []
    assert "warn" not in [action for _, action in adapt("openai", {}, model=family.prefix).actions()]


@each("kind", [kind for kind in providers.OURS if kind not in ("friendli", "local")])
def test_team_of_friendli_reaches_no_other_vendor(kind: str) -> None:
    adapted = adapt(kind, {"team": "T1"})
    assert "T1" not in str((adapted.sent, adapted.headers))
    assert ("team", "drop") in adapted.actions()
    with pytest.raises(Refusal):
        adapt(kind, {"team": "T1"}, strict=True)
