"""What models of other vendors take: efforts by model, and parameters that exclude each other."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dialects.parameters import check_parameters
from gateway.errors import BadRequest
from providers.base import Body, Refusal
from tests.providers.adapting import adapt
from tests.providers.everything import WEATHER


@pytest.mark.parametrize(
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


def test_groq_gets_tools_or_a_response_format() -> None:
    request = {"tools": [WEATHER], "response_format": {"type": "json_object"}}
    adapted = adapt("groq", request)
    assert ("response_format" in adapted.sent, "tools" in adapted.sent) == (False, True)
    with pytest.raises(Refusal):
        adapt("groq", request, strict=True)


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
