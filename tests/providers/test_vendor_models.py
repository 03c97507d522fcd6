"""The values that models of other vendors accept: efforts by model, and parameters that exclude each other."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

import providers
from gateway.dialects.parameters import check_parameters
from gateway.errors import BadRequest
from providers.base import Body, Options, Refusal
from providers.goodfire import GoodfireSettings
from tests.providers.adapting import HI, adapt, target_for
from tests.providers.everything import WEATHER
from tests.support.each import each


@each(
    ("kind", "model"),
    [
        ("openai", "gpt-4.1"), ("openai", "gpt-4o-search-preview"), ("azure", "gpt-4o"), ("xai", "grok-3"),
        ("xai", "grok-4-fast-non-reasoning"), ("groq", "llama-3.3-70b-versatile"), ("anthropic", "claude-3-5-haiku-latest"),
    ],
)  # fmt: skip
def test_strict_mode_accepts_no_effort_for_a_model_that_does_not_reason(kind: str, model: str) -> None:
    adapted = adapt(kind, {"messages": HI, "reasoning_effort": "none"}, model=model, strict=True)
    assert "reasoning_effort" not in adapted.sent
    assert ("reasoning_effort", "drop") in adapted.actions()


@each(("kind", "model"), [("xai", "grok-4"), ("groq", "deepseek-r1-distill-llama-70b")])
def test_strict_mode_refuses_no_effort_for_a_model_that_always_reasons(kind: str, model: str) -> None:
    with pytest.raises(Refusal):
        adapt(kind, {"messages": HI, "reasoning_effort": "none"}, model=model, strict=True)


@each(
    ("kind", "model", "effort", "sent"),
    [
        ("groq", "llama-3.3-70b-versatile", "high", None),
        ("groq", "qwen/qwen3-32b", "high", "default"),
        ("groq", "openai/gpt-oss-120b", "none", "low"),
        ("groq", "openai/gpt-oss-20b", "xhigh", "high"),
        ("gemini", "gemini-2.5-pro", "none", "low"),
        ("gemini", "gemini-2.5-flash", "none", "none"),
        ("xai", "grok-3", "high", None),
        ("xai", "grok-3-mini", "high", "high"),
    ],
)
def test_effort_is_sent_as_the_model_takes_it(kind: str, model: str, effort: str, sent: str | None) -> None:
    adapted = adapt(kind, {"reasoning_effort": effort}, model=model)
    assert adapted.sent.get("reasoning_effort") == sent
    assert any(param == "reasoning_effort" for param, _ in adapted.actions()) == (sent != effort)
    if sent != effort:
        with pytest.raises(Refusal):
            adapt(kind, {"reasoning_effort": effort}, model=model, strict=True)


@each("kind_of_format", ["json_object", "json_schema"])
@each(
    ("kind", "model"),
    [("groq", "llama-3.3-70b-versatile"), ("gemini", "gemini-2.5-flash"), ("gemini", "gemini-2.5-pro"), ("gemini", "gemini-1.5-pro")],
)
def test_some_models_get_tools_or_a_response_format(kind: str, model: str, kind_of_format: str) -> None:
    format = {"type": kind_of_format, "json_schema": {"name": "n", "schema": {"type": "object"}}}
    request = {"tools": [WEATHER], "response_format": format}
    adapted = adapt(kind, request, model=model)
    assert ("response_format" in adapted.sent, "tools" in adapted.sent) == (False, True)
    assert ("response_format", "drop") in adapted.actions()
    with pytest.raises(Refusal):
        adapt(kind, request, model=model, strict=True)
    assert adapt(kind, {"response_format": format}, model=model, strict=True).sent["response_format"] == format


def test_gemini_3_gets_tools_and_a_response_format() -> None:
    request = {"tools": [WEATHER], "response_format": {"type": "json_object"}}
    assert adapt("gemini", request, model="gemini-3-pro", strict=True).adjustments == []


def test_gemini_gets_its_extra_body() -> None:
    extra = {"google": {"thinking_config": {"thinking_budget": 0}, "cached_content": "c"}}
    adapted = adapt("gemini", {"extra_body": extra}, strict=True)
    assert (adapted.sent["extra_body"], adapted.adjustments) == (extra, [])


@pytest.mark.parametrize(("model", "thinks"), [("deepseek-chat", False), ("deepseek-v4-pro", True)])
def test_only_a_deepseek_model_that_thinks_loses_sampling_and_a_forced_choice(model: str, thinks: bool) -> None:
    request: dict[str, Any] = {"temperature": 0.2, "tools": [WEATHER], "tool_choice": "required"}
    assert ("temperature" in adapt("deepseek", request, model=model).sent) is not thinks
    assert ("tool_choice" in adapt("deepseek", request, model=model).sent) is not thinks
    thinking = {**request, "thinking": {"type": "enabled"}}
    assert "temperature" not in adapt("deepseek", thinking, model=model).sent


def test_effort_none_turns_thinking_off_at_together_and_friendli() -> None:
    assert adapt("together", {"reasoning_effort": "none"}, strict=True).sent["reasoning"] == {"enabled": False}
    request = {"reasoning_effort": "none", "chat_template_kwargs": {"a": 1}}
    assert adapt("friendli", request, strict=True).sent["chat_template_kwargs"] == {"a": 1, "enable_thinking": False}


def test_delay_time_must_be_a_number() -> None:
    with pytest.raises(BadRequest):
        check_parameters(Body(b'{"messages":[{"role":"user","content":"Hi"}],"x_delay_time":"abc"}'))


@each(
    ("kind", "model", "effort", "sent", "is_newer"),
    [
        ("fireworks", "accounts/fireworks/models/deepseek-v4-pro", "xhigh", "xhigh", False),
        ("fireworks", "accounts/fireworks/models/deepseek-v4-pro", "none", "none", False),
        ("fireworks", "accounts/fireworks/models/deepseek-v5", "max", "max", True),
        ("fireworks", "accounts/fireworks/models/deepseek-v3p2", "max", "high", False),
        ("fireworks", "accounts/fireworks/models/glm-5p1", "low", "high", False),
        ("fireworks", "accounts/fireworks/routers/glm-6-fast", "low", "high", True),
        ("fireworks", "accounts/fireworks/models/kimi-k2p6", "none", "low", False),
        ("fireworks", "accounts/fireworks/models/minimax-m3", "none", "low", True),
        ("fireworks", "accounts/fireworks/models/gpt-oss-20b", "xhigh", "high", False),
        ("xai", "grok-5", "max", "xhigh", True),
        ("xai", "grok-4.20-beta", "high", None, False),
        ("xai", "grok-4-0709", "high", None, False),
        ("xai", "grok-4-1-fast", "high", None, False),
        ("gemini", "gemini-4-pro", "none", "low", True),
        ("gemini", "gemini-3.1-pro", "minimal", "low", False),
        ("cerebras", "kimi-k4", "medium", "high", True),
        ("cerebras", "zai-glm-5.3", "none", "low", False),
        ("cerebras", "zai-glm-4.7", "none", "none", False),
        ("groq", "qwen/qwen3-32b", "low", "default", False),
        ("groq", "qwen/qwen4-72b", "low", "default", True),
        ("deepseek", "deepseek-v5", "high", "high", True),
    ],
)
def test_a_newer_model_is_treated_like_the_newest_of_its_family_and_says_so_once(
    kind: str, model: str, effort: str, sent: str | None, is_newer: bool
) -> None:
    adapted = adapt(kind, {"reasoning_effort": effort}, model=model)
    assert adapted.sent.get("reasoning_effort") == sent
    assert adapted.actions().count(("model", "warn")) == is_newer


@each("count", [0, 1, 3, 20])
@each("kind", sorted(providers.OURS))
def test_a_number_as_logprobs_is_sent_as_the_provider_takes_it(kind: str, count: int) -> None:
    adapted = adapt(kind, {"logprobs": count})
    sent, top = adapted.sent.get("logprobs"), adapted.sent.get("top_logprobs")
    if kind == "fireworks":
        assert (sent, top) == (min(count, 5), None)
    elif kind == "together":
        assert (sent, top) == (count or None, None)
    elif sent is not None:
        assert sent is True
        assert top is None or 0 < top <= count or kind == "local"
    assert sent is not None or any(param == "logprobs" for param, _ in adapted.actions())


@each("kind", sorted(providers.OURS))
def test_a_text_as_prediction_is_sent_as_the_provider_takes_it(kind: str) -> None:
    adapted = adapt(kind, {"prediction": "text"})
    sent = adapted.sent.get("prediction")
    assert sent in (None, "text" if kind == "fireworks" else {"type": "content", "content": "text"})
    assert (sent == "text") != any(param == "prediction" for param, _ in adapted.actions())


@each(("tier", "warns"), [("priority", False), ("default", True), ("flex", True), ("auto", True)])
def test_a_service_tier_without_effect_at_fireworks_is_reported(tier: str, warns: bool) -> None:
    adapted = adapt("fireworks", {"service_tier": tier}, strict=True)
    assert adapted.sent["service_tier"] == tier
    assert (("service_tier", "warn") in adapted.actions()) is warns


SEARCH = {"type": "web:search"}


def test_built_in_tools_go_to_friendlis_path_for_them() -> None:
    request = {"tools": [SEARCH, WEATHER], "resume_generation": True}
    target = target_for("friendli")
    body = Body(json.dumps({"model": "m", "messages": HI, **request}).encode())
    options = Options(strict=True)
    assert target.kind.adapt(body, target, options) == []
    wire = target.kind.encode(body, target, options)
    assert wire.path == "/serverless/tools/v1/chat/completions"
    assert json.loads(wire.body)["tools"][0] == SEARCH
    decoder = target.kind.decoder(target, options)
    assert decoder is not None
    assert decoder.feed("tool_status", b'{"status":"STARTED"}') == ()
    dedicated = msgspec.structs.replace(target, base_url="https://api.friendli.ai/dedicated/v1")
    with pytest.raises(Refusal, match="serverless"):
        target.kind.adapt(Body(json.dumps({"model": "m", "messages": HI, **request}).encode()), dedicated, Options())
    with pytest.raises(Refusal, match="built-in tools"):
        adapt("friendli", {"tools": [{"type": "custom"}]})
    assert ("resume_generation", "drop") in adapt("friendli", {"resume_generation": True}).actions()


FEATURE = {"uuid": "01-ab", "label": "pirate", "index_in_sae": 7, "value": 1}
WIRE_FEATURE = {"uuid": "01ab", "label": "pirate", "index_in_sae": 7, "max_activation_strength": 1}


def test_a_goodfire_model_can_name_a_variant_of_the_settings() -> None:
    variants = {"pirate": [FEATURE], "raw": {"interventions": [], "scopes": []}}
    adapted = adapt("goodfire", {}, model="meta/llama@pirate", variants=variants)
    intervention = {"mode": "nudge", "features": {"features": [WIRE_FEATURE]}, "value": 1.0}
    assert adapted.sent["model"] == "meta/llama"
    assert adapted.sent["controller"] == {"name": "pirate", "interventions": [intervention], "scopes": []}
    assert ("controller", "set_default") in adapted.actions()
    assert adapt("goodfire", {}, model="m@raw", variants=variants).sent["controller"]["name"] == "raw"
    assert adapt("goodfire", {"controller": {"name": "own"}}, model="m@raw", variants=variants).sent["controller"] == {"name": "own"}
    with pytest.raises(Refusal, match="variant 'other'"):
        adapt("goodfire", {}, model="m@other", variants=variants)


BAD_FEATURES = [{"value": 1}, {**FEATURE, "mode": "x"}, {**FEATURE, "value": "1"}, {**FEATURE, "a": 1}]


@each("features", [[], {}, "x", *([feature] for feature in BAD_FEATURES)])
def test_a_variant_that_cannot_be_sent_is_refused_in_the_settings(features: Any) -> None:
    with pytest.raises(ValueError, match="variants"):
        GoodfireSettings(variants={"v": features})


OPEN = {
    "type": "object",
    "properties": {"a": {"$ref": "#/definitions/A"}},
    "required": ["a"],
    "definitions": {"A": {"type": "object", "properties": {}}},
}
CLOSED_A = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize("strict", [False, True])
def test_strict_schemas_are_closed_and_have_defs_at_cerebras(strict: bool) -> None:
    request = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": OPEN}},
        "tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": OPEN}}],
    }
    adapted = adapt("cerebras", request, strict=strict)
    expected = {**OPEN, "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": CLOSED_A}, "additionalProperties": False}
    del expected["definitions"]
    assert adapted.sent["response_format"]["json_schema"]["schema"] == expected
    assert adapted.sent["tools"][0]["function"]["parameters"] == expected
    assert adapted.actions() == [("tools[0].function.parameters", "reshape"), ("response_format", "reshape")]
    again = adapt("cerebras", {"response_format": adapted.sent["response_format"], "tools": adapted.sent["tools"]}, strict=True)
    assert again.adjustments == []


@pytest.mark.parametrize("kind", ["openai", "azure", "groq"])
def test_a_strict_schema_that_cannot_be_enforced_is_sent_without_strict_and_checked_here(kind: str) -> None:
    optional = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}
    request = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": optional}}}
    adapted = adapt(kind, request, strict=True)
    assert adapted.sent["response_format"]["json_schema"] == {"name": "n", "strict": False, "schema": optional}
    assert adapted.actions() == [("response_format", "enforce_locally")]
    plain = {"type": "json_schema", "json_schema": {"name": "n", "schema": optional}}
    assert adapt(kind, {"response_format": plain}, strict=True).adjustments == []


def test_a_keyword_that_openai_does_not_enforce_is_checked_here() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]}
    request = {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}}
    adapted = adapt("openai", request, strict=True)
    sent = adapted.sent["response_format"]["json_schema"]
    assert sent["schema"] == {**schema, "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    assert adapted.actions() == [("response_format", "reshape"), ("response_format", "enforce_locally")]


@pytest.mark.parametrize("strict", [False, True])
def test_arguments_of_a_strict_tool_that_loses_a_keyword_are_checked(strict: bool) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]}
    request = {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}]}
    adapted = adapt("anthropic", request, model="claude-opus-5", strict=strict)
    assert "minimum" not in json.dumps(adapted.sent["tools"])
    assert ("tools[0].function.parameters", "enforce_locally") in adapted.actions()
