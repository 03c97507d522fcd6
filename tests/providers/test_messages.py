"""providers.rules.messages: conversations keep their content when roles, parts and messages are adapted."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from providers.base import Body, Refusal
from providers.rules.conversation import short_id
from providers.rules.messages import may_mention
from tests.providers.adapting import adapt
from tests.support.each import each

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
CALLS = [{"id": "call_12345", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def messages(kind: str, given: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """Return the messages that the provider gets."""
    result: list[dict[str, Any]] = adapt(kind, {"messages": given}, **more).sent["messages"]
    return result


def test_role_written_with_json_escapes_is_detected() -> None:
    raw = b'[{"role":"develop\\u0065r","content":"A"}]'
    assert may_mention(raw, (b'"developer"',))
    assert Body(b'{"messages":' + raw + b"}").get("messages")[0]["role"] == "developer"


def test_system_prompt_is_prepended_to_a_leading_system_message() -> None:
    source = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    result = adapt("openai", {"messages": source, "system_prompt": "Be brief."})
    assert result.sent["messages"] == [{"role": "system", "content": "Be brief.\n\nBe kind."}, source[1]]
    assert result.actions() == [("system_prompt", "reshape")]


def test_system_prompt_is_prepended_to_a_system_message_of_parts() -> None:
    source = [{"role": "developer", "content": [{"type": "text", "text": "B"}]}, {"role": "user", "content": "Hi"}]
    result = adapt("openai", {"messages": source, "system_prompt": "A"}).sent["messages"][0]
    assert result == {"role": "developer", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}


def test_an_empty_system_prompt_adds_nothing() -> None:
    assert "system" not in json.dumps(messages("openai", [{"role": "user", "content": "Hi"}]))
    assert adapt("openai", {"system_prompt": ""}).actions() == [("system_prompt", "drop")]


def test_neighbours_of_one_role_are_merged_except_tool_messages() -> None:
    source = [
        {"role": "user", "content": "A"},
        {"role": "user", "content": [{"type": "text", "text": "B"}]},
        {"role": "assistant", "content": None, "tool_calls": [*CALLS, {**CALLS[0], "id": "call_6789"}]},
        {"role": "tool", "tool_call_id": "call_12345", "content": "1"},
        {"role": "tool", "tool_call_id": "call_6789", "content": "2"},
    ]
    assert messages("siati", source) == [
        {"role": "user", "content": "A\n\nB"},
        *source[2:],
    ]


def test_text_parts_become_a_string_if_only_a_string_is_accepted() -> None:
    source = [{"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}]
    result = adapt("goodfire", {"messages": source})
    assert result.sent["messages"] == [{"role": "user", "content": "AB"}]
    assert ("messages[0].content", "reshape") in result.actions()


@each(
    ("kind", "role"), [("goodfire", "user"), ("friendli", "system"), ("ollama", "user"), ("cohere", "user"), ("anthropic", "user")]
)
def test_unsupported_content_is_refused_with_its_path(kind: str, role: str) -> None:
    part = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}} if kind != "ollama" else IMAGE
    with pytest.raises(Refusal) as refused:
        adapt(kind, {"messages": [{"role": role, "content": [{"type": "text", "text": "A"}, part]}]})
    assert (refused.value.param, refused.value.code) == ("messages[0].content[1]", "unsupported_content")


def test_ollama_accepts_images_only_as_data_uris() -> None:
    source = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
    assert messages("ollama", source) == source


def test_tool_call_messages_are_refused_without_tool_support() -> None:
    with pytest.raises(Refusal) as refused:
        adapt("goodfire", {"messages": [{"role": "assistant", "content": "", "tool_calls": CALLS}]})
    assert refused.value.param == "messages[0].tool_calls"


def test_tool_call_and_result_get_the_same_short_id_and_the_receipt_names_it() -> None:
    source = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "call_12345", "content": "1"},
    ]
    adapted = adapt("mistral", {"messages": source})
    new = adapted.sent["messages"][1]["tool_calls"][0]["id"]
    assert new == adapted.sent["messages"][2]["tool_call_id"] == short_id("call_12345")
    assert re.fullmatch(r"[a-zA-Z0-9]{9}", new)
    told = {item.param: (item.from_, item.to) for item in adapted.adjustments if "id" in item.param}
    assert told == dict.fromkeys(("messages[1].tool_calls[0].id", "messages[2].tool_call_id"), ("call_12345", new))


def test_unsupported_names_are_dropped_or_refused_in_strict_mode() -> None:
    source = [{"role": "user", "content": "Hi", "name": "ann"}]
    assert messages("groq", source) == [{"role": "user", "content": "Hi"}]
    with pytest.raises(Refusal) as refused:
        adapt("groq", {"messages": source}, strict=True)
    assert refused.value.param == "messages[0].name"


@each("kind", ["fireworks", "friendli", "mistral", "deepseek"])
def test_json_mode_warns_if_no_message_contains_json(kind: str) -> None:
    requested = {"response_format": {"type": "json_object"}}
    assert ("response_format", "warn") in adapt(kind, requested).actions()
    assert ("response_format", "warn") not in adapt(kind, {**requested, "messages": [{"role": "user", "content": "Json?"}]}).actions()


def test_discouraged_temperature_and_top_p_pass_with_a_warning() -> None:
    result = adapt("fireworks", {"temperature": 0.5, "top_p": 0.5}, strict=True)
    assert (result.sent["temperature"], result.sent["top_p"]) == (0.5, 0.5)
    assert result.actions() == [("temperature", "warn")]
