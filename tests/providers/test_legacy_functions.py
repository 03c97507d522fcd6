"""providers.rules.legacy_functions: legacy functions, functions beside tools, and choices without tools."""

from __future__ import annotations

from typing import Any

import pytest

import providers
from providers.base import Options, Refusal
from providers.body import MAX_SMALL_BYTES
from providers.rules.legacy_functions import LEGACY_CALLS
from tests.providers.adapting import adapt, adapt_with

FUNCTION = {"name": "f", "parameters": {"type": "object", "properties": {}}}
OTHER = {"name": "g", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
WITH_TOOLS = sorted(set(providers.OURS) - {"goodfire"})
NATIVE = {"openai", "azure", "openai-compatible", "groq", "fireworks"}
MODELS = {"anthropic": "claude-sonnet-4-5", "deepseek": "deepseek-chat"}


def model_of(kind: str) -> str:
    """Return a model that accepts tools and a forced choice."""
    return MODELS.get(kind, "example")


@pytest.mark.parametrize("kind", WITH_TOOLS)
def test_translated_functions_are_remembered_for_the_answer(kind: str) -> None:
    options = Options()
    adapted = adapt_with(kind, {"functions": [FUNCTION], "function_call": "auto"}, options, model=model_of(kind), tools=True)
    assert ("functions" in adapted.sent) == (kind in NATIVE)
    assert bool(options.memo.get(LEGACY_CALLS)) == (kind not in NATIVE or kind in ("groq", "fireworks"))


@pytest.mark.parametrize(("kind", "model"), [("mistral", "m"), ("xai", "grok-3"), ("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-5")])
def test_one_call_at_a_time_is_requested_where_that_is_possible(kind: str, model: str) -> None:
    adapted = adapt(kind, {"functions": [FUNCTION]}, model=model, strict=True)
    asked = adapted.sent.get("parallel_tool_calls") is False or adapted.sent["tool_choice"]["disable_parallel_tool_use"]
    assert asked
    assert ("parallel_tool_calls", "set_default") in adapted.actions()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", WITH_TOOLS)
def test_functions_beside_tools_are_added_to_them(kind: str, strict: bool) -> None:
    options = Options(strict=strict)
    request = {"functions": [OTHER, FUNCTION], "tools": [TOOL], "function_call": "auto"}
    adapted = adapt_with(kind, request, options, model=model_of(kind), tools=True)
    assert len(adapted.sent["tools"]) == 2
    assert not {"functions", "function_call"} & set(adapted.sent)
    assert ("functions", "reshape") in adapted.actions()
    assert LEGACY_CALLS not in options.memo, "the caller knows tool_calls"


@pytest.mark.parametrize("kind", ["openai", "gemini", "anthropic"])
def test_another_function_of_the_same_name_is_refused(kind: str) -> None:
    with pytest.raises(Refusal) as refused:
        adapt(kind, {"functions": [{**FUNCTION, "description": "x"}], "tools": [TOOL]}, model=model_of(kind))
    assert refused.value.param == "functions[0].name"


def test_the_choice_of_the_tools_wins_over_that_of_the_functions() -> None:
    request = {"functions": [OTHER], "tools": [TOOL], "function_call": {"name": "g"}, "tool_choice": "required"}
    adapted = adapt("openai", request)
    assert adapted.sent["tool_choice"] == "required"
    assert ("function_call", "drop") in adapted.actions()
    with pytest.raises(Refusal) as refused:
        adapt("openai", request, strict=True)
    assert refused.value.param == "function_call"


EMPTY: list[dict[str, Any]] = [{}, {"tools": None, "functions": None}, {"tools": [], "functions": []}]


@pytest.mark.parametrize("lists", EMPTY, ids=["absent", "null", "empty"])
@pytest.mark.parametrize("name", ["tool_choice", "function_call"])
@pytest.mark.parametrize("kind", sorted(providers.OURS))
def test_a_choice_without_tools_is_left_out(kind: str, name: str, lists: dict[str, Any]) -> None:
    if (kind, name, lists) == ("vllm", "tool_choice", {}):
        with pytest.raises(Refusal):  # see vllm-tool-choice-without-tools in the vectors
            adapt(kind, {name: "auto"})
        return
    for choice in ("auto", "none"):
        adapted = adapt(kind, {name: choice, **lists}, model=model_of(kind), strict=True)
        assert not {"tool_choice", "function_call", "tools", "functions"} & set(adapted.sent)
        assert (name, "drop") in adapted.actions()
    named = {"name": "f"} if name == "function_call" else {"type": "function", "function": {"name": "f"}}
    adapted = adapt(kind, {name: named, **lists}, model=model_of(kind))
    assert name not in adapted.sent
    assert (name, "drop") in adapted.actions()
    with pytest.raises(Refusal) as refused:
        adapt(kind, {name: named, **lists}, model=model_of(kind), strict=True)
    assert refused.value.param == name


UNKNOWN: list[dict[str, Any]] = [
    {"tool_choice": {"type": "function", "function": {"name": "x"}}, "tools": [TOOL]},
    {"function_call": {"name": "x"}, "functions": [FUNCTION]},
]
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "x"}}]}}


@pytest.mark.parametrize("request_", UNKNOWN, ids=["tools", "functions"])
@pytest.mark.parametrize("kind", sorted(providers.OURS))
def test_a_choice_of_a_tool_that_is_not_sent_is_refused(kind: str, request_: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        adapt_with(kind, request_, Options(), model=model_of(kind), tools=True)
    assert refused.value.param == next(iter(request_))
    assert "'x'" in refused.value.message


@pytest.mark.parametrize("choice", [ALLOWED, {"type": "custom", "custom": {"name": "x"}}])
def test_each_allowed_tool_and_custom_tool_must_be_sent(choice: dict[str, Any]) -> None:
    custom = {"type": "custom", "custom": {"name": "patch"}}
    with pytest.raises(Refusal):
        adapt("openai", {"tools": [TOOL, custom], "tool_choice": choice})
    known = {"type": "custom", "custom": {"name": "patch"}}
    assert adapt("openai", {"tools": [TOOL, custom], "tool_choice": known}).sent["tool_choice"] == known
    hosted = {"type": "web_search"}
    assert adapt("openai-compatible", {"tools": [TOOL, hosted], "tool_choice": hosted}).sent["tool_choice"] == hosted


@pytest.mark.parametrize("tools", [5, True, "x", {"a": 1}])
def test_allowed_tools_that_are_no_list_are_left_to_the_provider(tools: Any) -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools}}
    assert adapt("openai-compatible", {"tools": [TOOL], "tool_choice": choice}).sent["tool_choice"] == choice


def test_an_accepted_choice_of_a_tool_does_not_accept_the_same_choice_of_a_function() -> None:
    choice = {"type": "function", "function": {"name": "f"}, "name": "x"}
    listed = [{"type": "function", "function": {**FUNCTION, "description": "d" * MAX_SMALL_BYTES}, "name": "g"}]
    assert adapt("openai-compatible", {"tools": listed, "tool_choice": choice}).sent["tool_choice"] == choice
    with pytest.raises(Refusal, match="'x'"):
        adapt("openai-compatible", {"functions": listed, "function_call": choice})
