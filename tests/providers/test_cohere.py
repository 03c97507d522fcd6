"""providers.cohere: requests, answers and streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.base import Options, Refusal, StreamFailure
from providers.cohere.provider import COHERE
from tests.providers.adapting import adapt, target_for

TOOL = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object", "properties": {}}}}


def streamed(*events: dict[str, Any]) -> list[Any]:
    """Return the chunks for events."""
    target = target_for("cohere")
    decoder = target.kind.decoder(target, Options(stream=True))
    assert decoder is not None
    out = [chunk for event in events for chunk in decoder.feed("", json.dumps(event).encode())]
    return [item if item == b"[DONE]" else json.loads(item) for item in out]


def test_names_ranges_and_lists_are_adapted_to_cohere() -> None:
    result = adapt("cohere", {"top_p": 1, "top_k": 900, "stop": ["a", "b", "c", "d", "e", "f"], "frequency_penalty": -1})
    assert (result.sent["p"], result.sent["k"], result.sent["frequency_penalty"]) == (0.99, 500, 0)
    assert result.sent["stop_sequences"] == ["a", "b", "c", "d", "e"]
    assert ("stop", "enforce_locally") in result.actions()


@pytest.mark.parametrize(("choice", "wire"), [("required", "REQUIRED"), ("none", "NONE"), ("auto", None)])
def test_tool_choices_are_mapped_to_cohere_words(choice: str, wire: str | None) -> None:
    result = adapt("cohere", {"tools": [TOOL], "tool_choice": choice}).sent
    assert result.get("tool_choice") == wire
    assert result["strict_tools"] is True
    assert "strict" not in result["tools"][0]["function"]


def test_named_tool_choice_is_refused_in_strict_mode() -> None:
    named = {"type": "function", "function": {"name": "f"}}
    assert "tool_choice" not in adapt("cohere", {"tools": [TOOL], "tool_choice": named}).sent
    with pytest.raises(Refusal):
        adapt("cohere", {"tools": [TOOL], "tool_choice": named}, strict=True)


@pytest.mark.parametrize(
    ("effort", "thinking"),
    [("none", {"type": "disabled"}), ("low", {"type": "enabled", "token_budget": 2048})],
)
def test_reasoning_effort_becomes_a_thinking_budget(effort: str, thinking: dict[str, Any]) -> None:
    assert adapt("cohere", {"reasoning_effort": effort}).sent["thinking"] == thinking


def test_assistant_message_with_tool_calls_has_no_content() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    source = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": calls}]
    assert adapt("cohere", {"messages": source}).sent["messages"][1] == {"role": "assistant", "tool_calls": calls}


def test_answer_keeps_text_thinking_tool_calls_and_usage() -> None:
    message = {
        "role": "assistant",
        "tool_plan": "I look it up.",
        "content": [{"type": "thinking", "thinking": "hm "}, {"type": "text", "text": "A"}],
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    usage = {"billed_units": {"input_tokens": 1.0, "output_tokens": 1.0}, "tokens": {"input_tokens": 5.0, "output_tokens": 2.0}}
    target = target_for("cohere")
    source = {
        "id": "x",
        "finish_reason": "TOOL_CALL",
        "message": message,
        "usage": usage,
        "logprobs": [{"text": "A", "logprobs": [-1, -2]}],
    }
    result = target.kind.decode(json.dumps(source).encode(), target, Options())
    choice = json.loads(result.body)["choices"][0]
    assert (choice["message"]["content"], choice["message"]["reasoning_content"]) == ("A", "hm I look it up.")
    assert choice["message"]["tool_calls"] == message["tool_calls"]
    assert choice["logprobs"]["content"][0]["logprob"] == -3
    assert result.usage is not None
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (5, 2)


def test_answer_with_an_error_finish_is_rejected() -> None:
    target = target_for("cohere")
    body = json.dumps({"finish_reason": "ERROR", "message": {"content": []}}).encode()
    with pytest.raises(ValueError, match="ERROR"):
        target.kind.decode(body, target, Options())


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "broke off"}},
        {"message": "broke off"},
        {"type": "error", "message": "broke off"},
    ],
)
def test_error_event_fails_the_stream(event: dict[str, Any]) -> None:
    with pytest.raises(StreamFailure, match="broke off"):
        streamed({"type": "message-start", "id": "x"}, event)


def test_events_without_an_openai_equivalent_add_no_chunk() -> None:
    assert streamed({"type": "content-end"}, {"type": "citation-start"}, {"type": "tool-call-end"}, {"type": "new-kind"}) == []


@pytest.mark.parametrize(("status", "kind"), [(498, "auth"), (499, "server_error"), (429, "rate_limit")])
def test_cohere_specific_statuses_are_classified(status: int, kind: str) -> None:
    target = target_for("cohere")
    assert target.kind.failure(status, {}, b'{"message": "m"}', target).kind == kind


@pytest.mark.parametrize(("status", "kind"), [(498, "auth"), (499, "server_error")])
def test_own_status_codes_of_cohere_are_classified(status: int, kind: str) -> None:
    assert COHERE.failure(status, {}, b'{"message":"x"}').kind == kind
