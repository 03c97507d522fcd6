"""providers.rules: rules keep the caller's meaning, report every change, and leave other requests unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest

import providers
from providers.base import Adjustment, Body, Options, Refusal
from providers.rules.fan_out import fan_out
from providers.rules.names import OutputCap, Rename
from providers.rules.not_given import NOT_GIVEN
from providers.rules.rule import Accepts, CompiledRules, ForModels, compile_rules
from providers.rules.shapes import Choices, StopStrings, StreamUsage
from providers.rules.values import Default, Drop, MapValues, MoveToHeader, OneOf, Range
from tests.providers.adapting import HI, adapt, target_for
from tests.support.each import each


def run(rules: Any, body: dict[str, Any], *, strict: bool = False, stream: bool = False) -> tuple[dict[str, Any], list[Adjustment]]:
    """Return a body to which rules are applied, and the adjustments."""
    source = Body(json.dumps(body).encode())
    adjustments = CompiledRules(rules, unknown="drop").apply(source, "it", Options(strict=strict, stream=stream), {})
    return json.loads(source.encode()), adjustments


@each("kind", ["openai", "azure", "openai-compatible", "vllm", "llamacpp", "groq", "xai", "openrouter"])
def test_request_without_changes_keeps_its_bytes(kind: str) -> None:
    source = b'{ "model":"example", "messages" : [{"role":"user","content":"Hi \\u00e9"}],"temperature":0.70, "max_tokens":5}'
    target = target_for(kind)
    body = Body(source)
    assert target.kind.adapt(body, target, Options()) == []
    assert target.kind.encode(body, target, Options()).body == source


def test_messages_are_not_decoded_unless_a_rule_needs_them() -> None:
    target = target_for("openai")
    body = Body(json.dumps({"model": "example", "messages": HI, "temperature": 1}).encode())
    target.kind.adapt(body, target, Options())
    assert set(body._values) == {"temperature"}


def test_the_caller_s_name_for_the_model_is_replaced_by_the_target_s() -> None:
    assert adapt("openai", {}, model="gpt-4.1").sent["model"] == "gpt-4.1"


@each(
    ("value", "sent", "clamped"),
    [(2.5, 2, True), (-0.1, 0, True), (2, 2, False), (0, 0, False), (1.5, 1.5, False), (None, None, False)],
)
def test_range_clamps_and_reports(value: Any, sent: Any, clamped: bool) -> None:
    body, adjustments = run((Range("temperature", 0, 2),), {"temperature": value})
    assert body == {"temperature": sent}
    assert [(adjustment.action, adjustment.from_, adjustment.to) for adjustment in adjustments] == (
        [("clamp", value, sent)] if clamped else []
    )


def test_range_refuses_in_strict_mode_or_if_clamping_is_disabled() -> None:
    with pytest.raises(Refusal) as strict:
        run((Range("temperature", 0, 2),), {"temperature": 3}, strict=True)
    with pytest.raises(Refusal) as always:
        run((Range("top_k", 0, refuse=True),), {"top_k": -1})
    assert (strict.value.param, strict.value.code) == ("temperature", "invalid_value")
    assert (always.value.param, always.value.code) == ("top_k", "invalid_value")


@each(
    ("caps", "sent", "actions"),
    [
        ({"max_tokens": 5}, 5, []),
        ({"max_completion_tokens": 5}, 5, [("max_completion_tokens", "rename")]),
        ({"max_tokens": 5, "max_completion_tokens": 5}, 5, [("max_completion_tokens", "drop")]),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 5, [("max_completion_tokens", "drop")]),
        ({"max_tokens": 9, "max_completion_tokens": 5}, 5, [("max_tokens", "drop"), ("max_completion_tokens", "rename")]),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5, [("max_completion_tokens", "drop")]),
        ({"max_tokens": None, "max_completion_tokens": 5}, 5, [("max_completion_tokens", "rename")]),
    ],
)
def test_the_smaller_of_two_output_caps_is_sent(caps: dict[str, Any], sent: int, actions: list[tuple[str, str]]) -> None:
    body, adjustments = run((OutputCap("max_tokens"),), caps)
    assert body == {"max_tokens": sent}
    assert [(adjustment.param, adjustment.action) for adjustment in adjustments] == actions


def test_different_output_caps_are_refused_in_strict_mode() -> None:
    with pytest.raises(Refusal) as refused:
        run((OutputCap("max_completion_tokens"),), {"max_tokens": 5, "max_completion_tokens": 9}, strict=True)
    assert (refused.value.param, refused.value.code) == ("max_completion_tokens", "conflicting_parameters")


def test_a_neutral_value_is_dropped_in_strict_mode_too() -> None:
    body, adjustments = run((Drop("frequency_penalty"), Drop("logit_bias")), {"frequency_penalty": 0.0, "logit_bias": {}}, strict=True)
    assert body == {}
    assert [(adjustment.param, adjustment.action, adjustment.why) for adjustment in adjustments] == [
        ("frequency_penalty", "drop", "neutral value"),
        ("logit_bias", "drop", "neutral value"),
    ]


def test_false_is_not_a_neutral_value_for_temperature() -> None:
    with pytest.raises(Refusal):
        run((Drop("user"),), {"user": ""}, strict=True)


@pytest.mark.parametrize(("name", "code"), [("top_k", "unsupported_parameter"), ("frobnicate", "unknown_parameter")])
def test_a_field_without_a_rule_is_dropped_and_in_strict_mode_refused(name: str, code: str) -> None:
    body, adjustments = run((Accepts("model"),), {"model": "m", name: 3})
    assert body == {"model": "m"}
    assert [(adjustment.param, adjustment.action) for adjustment in adjustments] == [(name, "drop")]
    with pytest.raises(Refusal) as refused:
        run((Accepts("model"),), {"model": "m", name: 3}, strict=True)
    assert (refused.value.param, refused.value.code) == (name, code)


def test_policy_new_passes_unknown_fields_but_not_canonical_ones() -> None:
    body = Body(b'{"frobnicate":1,"team":"t"}')
    CompiledRules((), unknown="new").apply(body, "it", Options(), {})
    assert json.loads(body.encode()) == {"frobnicate": 1}


def test_model_rules_replace_only_the_general_rules_of_the_same_parameter() -> None:
    rules = (Range("temperature", 0, 2), Range("top_p", 0, 1), ForModels(("o1",), (Drop("temperature"),)), ForModels(("o",), ()))
    special, general = (compile_rules(rules, model, unknown="drop") for model in ("o1-mini", "gpt"))
    assert [type(rule).__name__ for rule in special.rules] == ["Range", "Drop"]
    assert [type(rule).__name__ for rule in general.rules] == ["Range", "Range"]


@each(
    ("rule", "body", "sent", "made"),
    [
        (OneOf("reasoning_effort", ("low", "high"), nearest={"minimal": "low"}), "minimal", "low", "clamp"),
        (OneOf("reasoning_effort", ("low", "high")), "odd", None, "drop"),
        (OneOf("reasoning_effort", ("low",), accepts_numbers=True), 500, 500, None),
        (OneOf("reasoning_effort", ("low",)), "low", "low", None),
    ],
)
def test_unsupported_word_is_mapped_to_the_nearest_or_dropped(rule: OneOf, body: Any, sent: Any, made: str | None) -> None:
    result, adjustments = run((rule,), {"reasoning_effort": body})
    assert result.get("reasoning_effort") == sent
    assert [adjustment.action for adjustment in adjustments] == ([made] if made else [])


def test_provider_name_wins_over_the_renamed_parameter() -> None:
    body, adjustments = run((Accepts("random_seed"), Rename("seed", "random_seed")), {"seed": 1, "random_seed": 2})
    assert body == {"random_seed": 2}
    assert [(adjustment.param, adjustment.action) for adjustment in adjustments] == [("seed", "drop")]


def test_the_rules_of_a_new_name_run_after_a_rename() -> None:
    body, _ = run((Rename("min_completion_tokens", "min_tokens"), Range("min_tokens", 0)), {"min_completion_tokens": -1})
    assert body == {"min_tokens": 0}


def test_default_applies_only_if_the_caller_sets_no_value() -> None:
    rules = (Default("seed", 42),)
    assert run(rules, {})[0] == {"seed": 42}
    assert run(rules, {"seed": 7}) == ({"seed": 7}, [])
    assert run(rules, {"seed": None})[0] == {"seed": 42}


@each("value", ["line\nbreak", "ümlaut", "x" * 300, ""])
def test_values_not_valid_in_a_header_are_dropped(value: str) -> None:
    body = Body(json.dumps({"user": value}).encode())
    adjustments = CompiledRules((MoveToHeader("user", "X-User"),), unknown="drop").apply(body, "it", Options(), {})
    assert (body.headers, [adjustment.action for adjustment in adjustments]) == ({}, ["drop"])
    assert json.loads(body.encode()) == {}


def test_false_without_effect_is_not_mapped() -> None:
    rule = MapValues("disable_reasoning", "thinking", ((True, {"type": "disabled"}), (False, None)))
    assert run((rule,), {"disable_reasoning": True})[0] == {"thinking": {"type": "disabled"}}
    assert run((rule,), {"disable_reasoning": False})[0] == {}
    assert run((rule,), {"disable_reasoning": 1})[0] == {}


def test_stop_strings_beyond_the_limit_are_enforced_locally_or_refused() -> None:
    body, adjustments = run((StopStrings("stop", limit=2),), {"stop": ["a", "b", "c"]})
    assert body == {"stop": ["a", "b"]}
    assert [(adjustment.action, adjustment.from_, adjustment.to) for adjustment in adjustments] == [("enforce_locally", 3, 2)]
    assert run((StopStrings("stop", limit=2),), {"stop": ["a", "b", "c"]}, strict=True) == (body, adjustments)


@pytest.mark.parametrize(
    ("given", "sent"),
    [(None, {"include_usage": True}), ({}, {"include_usage": True}), ({"include_usage": False, "x": 1}, {"include_usage": True, "x": 1})],
)
def test_usage_is_requested_on_every_stream(given: Any, sent: Any) -> None:
    body, adjustments = run((Accepts("stream"), StreamUsage("stream_options")), {"stream": True, "stream_options": given}, stream=True)
    assert body["stream_options"] == sent
    assert [adjustment.action for adjustment in adjustments] == ["set_default"]


def test_usage_requested_by_the_caller_is_not_reported_as_a_change() -> None:
    source = {"stream": True, "stream_options": {"include_usage": True}}
    assert run((Accepts("stream"), StreamUsage("stream_options")), source, stream=True) == (source, [])


def test_several_choices_become_several_requests_with_different_seeds() -> None:
    for seed, seeds in ((42, [42, 43, 44]), ([7, 8, 9], [7, 8, 9]), (None, [None] * 3), (2**63 - 1, [2**63 - 1, -(2**63), 1 - 2**63])):
        body = Body(json.dumps({"seed": seed, "n": 3} if seed is not None else {"n": 3}).encode())
        adjustments = CompiledRules((Choices(param="n"),), unknown="drop").apply(body, "it", Options(), {})
        assert [(adjustment.param, adjustment.action, adjustment.from_) for adjustment in adjustments] == [("n", "fan_out", 3)]
        assert [json.loads(item.encode()).get("seed") for item in fan_out(body, 3)] == seeds


def test_more_choices_than_max_fanout_are_refused() -> None:
    with pytest.raises(Refusal):
        run((Choices(param="n"),), {"n": 9})
    with pytest.raises(Refusal):
        adapt("siati", {"n": 3}, max_fanout=2)


def test_list_of_one_seed_becomes_that_seed() -> None:
    assert run((Choices(param="n", max_choices=4),), {"seed": [5]})[0] == {"seed": 5}
    with pytest.raises(Refusal):
        run((Choices(param="n", max_choices=4),), {"seed": [5, 6]})


def test_legacy_functions_become_tools_and_the_rules_for_tools_apply() -> None:
    result = adapt("friendli", {"functions": [{"name": "f"}], "function_call": {"name": "f"}})
    assert result.sent["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    assert result.sent["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert result.actions()[1:3] == [("functions", "reshape"), ("function_call", "reshape")]



def test_adapting_a_copy_leaves_the_original_unchanged() -> None:
    body = Body(json.dumps({"model": "m", "messages": HI, "top_k": 3, "temperature": 9}).encode())
    for kind in ("openai", "siati", "cohere"):
        target = target_for(kind)
        copy = body.copy()
        target.kind.adapt(copy, target, Options())
        target.kind.encode(copy, target, Options())
    assert json.loads(body.encode()) == {"model": "m", "messages": HI, "top_k": 3, "temperature": 9}


@each("kind", sorted(providers.OURS))
def test_the_capability_table_names_every_canonical_parameter(kind: str) -> None:
    table = providers.get(kind).capabilities("example")
    assert {"temperature", "tools", "seed", "top_k", "system_prompt"} <= table.keys()
    assert {entry["support"] for entry in table.values()} <= {"yes", "adjusted", "no", "passed"}


def test_the_capability_table_follows_the_model() -> None:
    openai = providers.get("openai")
    assert openai.capabilities("gpt-4.1")["temperature"]["support"] == "yes"
    assert openai.capabilities("gpt-5")["temperature"]["support"] == "no"
    assert openai.capabilities("gpt-5")["max_tokens"]["to"] == "max_completion_tokens"


@pytest.mark.parametrize(
    ("kind", "request_", "absent"),
    [
        ("friendli", {"response_format": {"type": "text"}, "functions": [{"name": "f"}]}, "response_format"),
        ("friendli", {"response_format": {"type": "text"}, "min_completion_tokens": 2}, "response_format"),
        ("together", {"logprobs": True, "top_logprobs": 0}, "top_logprobs"),
    ],
)
def test_neutral_value_is_dropped_if_its_presence_is_an_error(kind: str, request_: dict[str, Any], absent: str) -> None:
    assert absent not in adapt(kind, request_, strict=True).sent


def test_budget_renamed_to_effort_excludes_thinking() -> None:
    with pytest.raises(Refusal) as refused:
        adapt("fireworks", {"thinking": {"type": "enabled"}, "reasoning_budget": 2048})
    assert (refused.value.param, refused.value.code) == ("thinking", "conflicting_parameters")


def test_values_that_mean_not_given_are_left_out() -> None:
    body, adjustments = run(NOT_GIVEN, {"tools": None, "parallel_tool_calls": True, "stop": ["", "x"]}, strict=True)
    assert body == {"stop": ["x"]}
    assert {adjustment.param for adjustment in adjustments} == {"tools", "parallel_tool_calls", "stop"}
