"""providers.anthropic.models, thinking and schemas: the parameters that each of Claude's models accepts, alone and together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulate import json_mode
from providers.anthropic.models import MODELS, name_of, parse
from providers.anthropic.thinking import BUDGETS
from providers.base import Body, Options, Refusal
from providers.rules.schema_dialect import Simplifier
from providers.schema_dialects import ANTHROPIC_SCHEMAS
from tests.providers.adapting import adapt, target_for
from tests.providers.everything import WEATHER
from tests.support.each import each

OLD = {"anthropic_version": "2023-06-01"}
NAMES = [name_of(model) for model in MODELS]
FORCED: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required"}


def effort_of(sent: dict[str, Any]) -> Any:
    """Return the effort in a request to Anthropic."""
    return sent.get("output_config", {}).get("effort")


@each(
    ("name", "parsed"),
    [
        ("claude-3-5-haiku-20241022", ("haiku", (3, 5))),
        ("claude-3-opus-20240229", ("opus", (3, 0))),
        ("claude-opus-4-20250514", ("opus", (4, 0))),
        ("claude-opus-4-1-20250805", ("opus", (4, 1))),
        ("anthropic/claude-sonnet-4.6", ("sonnet", (4, 6))),
        ("claude-opus-4-10", ("opus", (4, 10))),
        ("claude-mythos-preview", ("mythos", (0, 0))),
        ("gpt-5", None),
    ],
)
def test_names_are_parsed_in_both_orders(name: str, parsed: Any) -> None:
    assert parse(name) == parsed


@each(("model", "name"), [(model, name_of(model)) for model in MODELS], ids=NAMES)
@each("effort", list(BUDGETS))
def test_effort_is_sent_in_the_form_that_the_model_takes(model: Any, name: str, effort: str) -> None:
    adapted = adapt("anthropic", {"reasoning_effort": effort}, model=name)
    kind = adapted.sent.get("thinking", {}).get("type")
    assert effort_of(adapted.sent) in (model.efforts or (None,))
    assert kind == {"none": None, "budget": None if model.efforts else "enabled"}.get(model.thinking, "adaptive")
    if kind == "enabled":
        assert 1024 <= adapted.sent["thinking"]["budget_tokens"] < adapted.sent["max_tokens"]
    assert [param for param, _ in adapted.actions()].count("reasoning_effort") >= 1
    assert not any(action == "warn" for _, action in adapted.actions())


@each(
    ("name", "effort", "sent"),
    [
        ("claude-opus-4-6", "xhigh", "high"),
        ("claude-sonnet-4-6", "xhigh", "high"),
        ("claude-opus-4-5", "xhigh", "high"),
        ("claude-opus-4-5", "max", "high"),
        ("claude-opus-4-8", "xhigh", "xhigh"),
        ("claude-sonnet-5", "minimal", "low"),
    ],
)
def test_effort_becomes_the_nearest_that_the_model_has(name: str, effort: str, sent: str) -> None:
    adapted = adapt("anthropic", {"reasoning_effort": effort}, model=name)
    assert effort_of(adapted.sent) == sent
    assert (("reasoning_effort", "clamp") in adapted.actions()) == (sent != effort)
    native = adapt("anthropic", {"output_config": {"effort": effort}}, model=name).sent
    assert effort_of(native) == sent


def test_effort_on_a_model_with_budgets_stays_below_the_caller_s_cap() -> None:
    for cap in (1025, 1500, 3000, 100_000):
        sent = adapt("anthropic", {"reasoning_effort": "high", "max_tokens": cap}, model="claude-haiku-4-5", strict=True).sent
        assert 1024 <= sent["thinking"]["budget_tokens"] < sent["max_tokens"] == cap
    adapted = adapt("anthropic", {"reasoning_effort": "high", "max_tokens": 1024}, model="claude-haiku-4-5")
    assert "thinking" not in adapted.sent
    assert ("reasoning_effort", "drop") in adapted.actions()


@pytest.mark.parametrize("request_", [{"thinking": {"type": "enabled", "budget_tokens": 8000}}, {"reasoning_budget": 8000}])
def test_default_cap_is_above_the_budget(request_: dict[str, Any]) -> None:
    sent = adapt("anthropic", request_, model="claude-sonnet-4-5", strict=True).sent
    assert (sent["thinking"], sent["max_tokens"]) == ({"type": "enabled", "budget_tokens": 8000}, 12_096)
    with pytest.raises(Refusal):
        adapt("anthropic", {**request_, "max_tokens": 2000}, model="claude-sonnet-4-5")
    newer = adapt("anthropic", request_, model="claude-sonnet-5")
    assert (newer.sent["thinking"], effort_of(newer.sent)) == ({"type": "adaptive"}, "medium")
    assert any(action == "downgrade" for _, action in newer.actions())
    with pytest.raises(Refusal):
        adapt("anthropic", request_, model="claude-sonnet-5", strict=True)


@each("name", NAMES)
@each(
    "request_",
    [
        {"reasoning_effort": "low"},
        {"reasoning_budget": 2000},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"thinking": {"type": "adaptive"}},
    ],
)
def test_forced_tool_choice_and_thinking_never_meet(name: str, request_: dict[str, Any]) -> None:
    sent = adapt("anthropic", {**FORCED, **request_}, model=name).sent
    assert sent.get("thinking", {}).get("type", "disabled") == "disabled" or sent["tool_choice"]["type"] == "auto"
    alone = adapt("anthropic", request_, model=name).sent
    if alone.get("thinking", {}).get("type") in ("enabled", "adaptive"):
        with pytest.raises(Refusal):
            adapt("anthropic", {**FORCED, **request_}, model=name, strict=True)


@pytest.mark.parametrize("name", ["claude-sonnet-4-5", "claude-opus-4-6"])
def test_sampling_is_dropped_while_the_model_thinks(name: str) -> None:
    request = {"reasoning_budget": 2000, "temperature": 0.2, "top_k": 5}
    adapted = adapt("anthropic", request, model=name, **OLD)
    assert not {"temperature", "top_k"} & set(adapted.sent)
    assert {("temperature", "drop"), ("top_k", "drop")} <= set(adapted.actions())
    with pytest.raises(Refusal):
        adapt("anthropic", request, model=name, strict=True, **OLD)
    assert adapt("anthropic", {"reasoning_budget": 2000, "temperature": 1}, model=name, strict=True, **OLD).sent["temperature"] == 1


@each(("model", "name"), [(model, name_of(model)) for model in MODELS], ids=NAMES)
def test_temperature_and_top_p_are_sent_as_the_model_takes_them(model: Any, name: str) -> None:
    sent = adapt("anthropic", {"temperature": 0.5, "top_p": 0.5}, model=name, **OLD).sent
    assert (
        sorted({"temperature", "top_p"} & set(sent))
        == {"both": ["temperature", "top_p"], "one": ["temperature"], "none": []}[model.sampling]
    )


@each(("model", "name"), [(model, name_of(model)) for model in MODELS], ids=NAMES)
def test_final_assistant_message_is_sent_only_to_models_that_continue_it(model: Any, name: str) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The answer is"}]
    if model.prefill:
        assert adapt("anthropic", {"messages": messages}, model=name).sent["messages"][-1]["role"] == "assistant"
        assert "thinking" not in adapt("anthropic", {"messages": messages, "reasoning_budget": 2000}, model="claude-sonnet-4-5").sent
    else:
        with pytest.raises(Refusal, match="final assistant message"):
            adapt("anthropic", {"messages": messages}, model=name)


@each(
    ("name", "like"),
    [
        ("claude-opus-6", "claude-opus-5"),
        ("claude-opus-4-9", "claude-opus-4-7"),
        ("claude-sonnet-6-1", "claude-sonnet-5"),
        ("claude-fable-7", "claude-fable-5"),
        ("claude-quartz-1", "claude-opus-5"),
    ],
)
def test_newer_model_is_treated_like_the_newest_of_its_family(name: str, like: str) -> None:
    request = {"reasoning_effort": "xhigh", "temperature": 0.5}
    newer, known = adapt("anthropic", request, model=name), adapt("anthropic", request, model=like)
    assert {**newer.sent, "model": like} == known.sent
    warnings = [adjustment.why for adjustment in newer.adjustments if adjustment.action == "warn"]
    assert len(warnings) == 1
    assert like in warnings[0]


BOUNDED = {
    "type": "object",
    "properties": {
        "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 200},
        "tags": {"type": "array", "items": {"type": "object", "properties": {"t": {"type": "string", "maxLength": 5}}}, "maxItems": 3},
        "first": {"type": "array", "items": {"type": "string", "format": "date"}, "minItems": 1},
    },
    "required": ["age"],
}


def adapted_format(schema: Any, *, strict: bool = False, model: str = "claude-sonnet-4-5") -> tuple[Any, dict[str, str], Any]:
    """Return the body that is sent, the actions on response_format and the check of the answer."""
    source = {
        "messages": [{"role": "user", "content": "Hi"}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
    }
    body = Body(json.dumps(source).encode())
    body, adjustments, watch = json_mode.adapt(body, target_for("anthropic", model), Options(strict))
    reasons = {item.action: item.why for item in adjustments if item.param == "response_format"}
    return json.loads(body.encode()), reasons, watch


def test_bounds_are_taken_out_of_a_schema_and_checked_in_the_answer() -> None:
    sent, actions, watch = adapted_format(BOUNDED, strict=True)
    schema = sent["output_config"]["format"]["schema"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["age"] == {"type": "integer"}
    assert schema["properties"]["tags"]["items"] == {
        "type": "object",
        "properties": {"t": {"type": "string"}},
        "additionalProperties": False,
    }
    assert schema["properties"]["first"] == BOUNDED["properties"]["first"]  # type: ignore[index]
    assert "exclusiveMaximum, maxItems, maxLength, minimum" in actions["enforce_locally"]
    assert "additionalProperties" in actions["reshape"]
    assert watch.check_text('{"age": 300}', "stop") is not None
    assert watch.check_text('{"age": 30}', "stop") is None


def test_schema_in_the_dialect_passes_unchanged() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"enum": [1]}}, "additionalProperties": False}
    sent, actions, _ = adapted_format(schema, strict=True)
    assert sent["output_config"]["format"]["schema"] == schema
    assert actions == {"reshape": ""}


@each(
    "schema",
    [
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"n": {"$ref": "#"}}},
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}},
        {"$ref": "https://example.org/s.json"},
    ],
)
def test_schema_that_the_dialect_cannot_express_is_emulated(schema: Any) -> None:
    sent, actions, watch = adapted_format(schema)
    assert "output_config" not in sent
    assert "drop" in actions
    assert "JSON Schema" in sent["system"]
    assert watch.check_text("[", "stop") is not None


@pytest.mark.parametrize("model", ["claude-3-5-haiku-20241022", "claude-sonnet-4-20250514"])
def test_structured_output_is_emulated_for_models_without_it(model: str) -> None:
    sent, actions, _ = adapted_format({"type": "object", "properties": {}}, model=model)
    assert "output_config" not in sent
    assert set(actions) == {"drop"}
    assert "JSON Schema" in sent["system"]


_SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "object"])}, optional={"minimum": st.just(1), "maxLength": st.just(2)}
    ),
    lambda inner: st.one_of(
        st.builds(lambda child: {"type": "array", "items": child, "maxItems": 2, "minItems": 2}, inner),
        st.builds(lambda child: {"type": "object", "properties": {"a": child}, "patternProperties": {}}, inner),
        st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner),
    ),
)


@given(_SCHEMAS)
def test_simplified_schema_has_only_closed_objects_and_no_bounds(schema: Any) -> None:
    def check(node: Any) -> None:
        if isinstance(node, list):
            for child in node:
                check(child)
        elif isinstance(node, dict):
            assert not {"minimum", "maxLength", "maxItems", "minItems", "patternProperties"} & set(node)
            assert node.get("type") != "object" or node["additionalProperties"] is False
            for child in node.values():
                check(child)

    once = Simplifier(ANTHROPIC_SCHEMAS).simplify(schema)
    check(once)
    assert Simplifier(ANTHROPIC_SCHEMAS).simplify(once) == once
