"""A choice of a stream has one role and tool calls in OpenAI's format."""

from __future__ import annotations

from typing import Any

import pytest

from providers.stream_choices import StreamChoice


def test_role_is_the_assistants_and_is_sent_once() -> None:
    state = StreamChoice()
    first: dict[str, Any] = {"role": "model", "content": "A"}
    assert state.repair_role(first)
    assert first == {"role": "assistant", "content": "A"}
    second: dict[str, Any] = {"role": "assistant", "content": "B"}
    assert state.repair_role(second)
    assert second == {"content": "B"}


def test_call_in_openais_form_is_unchanged() -> None:
    delta: dict[str, Any] = {
        "tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]
    }
    assert not StreamChoice().repair_calls(delta)
    nothing: dict[str, Any] = {"tool_calls": []}
    assert not StreamChoice().repair_calls(nothing)


def test_phantom_call_is_removed() -> None:
    delta: dict[str, Any] = {"content": "A", "tool_calls": [{"index": 0}]}
    assert StreamChoice().repair_calls(delta)
    assert delta == {"content": "A"}


@pytest.mark.parametrize(
    ("delta", "goes_on"),
    [
        ({"content": "A"}, True),
        ({"role": "assistant", "content": "A"}, False),
        ({"tool_calls": []}, False),
        ({"function_call": {}}, False),
        ("A", False),
        (None, False),
    ],
)
def test_text_goes_on_after_the_first_delta(delta: Any, goes_on: bool) -> None:
    state = StreamChoice()
    assert not state.goes_on(delta)
    state.has_delta = True
    assert state.goes_on(delta) is goes_on
    state.has_role = True
    assert state.goes_on(delta) is (goes_on or delta == {"role": "assistant", "content": "A"})


def test_a_call_in_both_forms_is_sent_once_although_its_pieces_come_in_turn() -> None:
    state = StreamChoice()
    function = {"name": "f", "arguments": ""}
    deltas: list[dict[str, Any]] = [
        {"tool_calls": [{"index": 0, "id": "c", "function": function}], "function_call": function},
        *({form: piece} for text in ("[1", "]") for form, piece in (
            ("tool_calls", [{"index": 0, "function": {"arguments": text}}]), ("function_call", {"arguments": text}),
        )),
    ]  # fmt: skip
    sent = []
    for delta in deltas:
        state.adopt_function_call(delta)
        if "tool_calls" in delta:
            state.repair_calls(delta)
            sent += [call["function"]["arguments"] for call in delta["tool_calls"]]
    assert "".join(sent) == "[1]"
