"""providers.rules.tool_results: one result for each call, with the content that the vendor accepts in a tool message."""

from __future__ import annotations

from typing import Any

import pytest

from providers.base import Refusal
from providers.message_tables import ROWS
from providers.rules.tool_results import IN_NEXT_MESSAGE
from tests.providers.adapting import adapt
from tests.providers.strict_messages import message_objections, texts_of

USER = {"role": "user", "content": "Hi"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL_KINDS = [kind for kind, row in ROWS.items() if row.has_tools and row.unknown != "pass"]
TEXT_ONLY = [kind for kind in TOOL_KINDS if "image_url" not in ROWS[kind].result_parts and ROWS[kind].result_parts and kind != "local"]
MODELS = {"anthropic": "claude-sonnet-4-5"}


def call(*ids: str) -> dict[str, Any]:
    """Return an assistant message with calls of these ids."""
    calls = [{"id": id, "type": "function", "function": {"name": f"f{number}", "arguments": "{}"}} for number, id in enumerate(ids)]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(id: str, content: Any) -> dict[str, Any]:
    """Return the result of a call."""
    return {"role": "tool", "tool_call_id": id, "content": content}


def sent(kind: str, messages: list[dict[str, Any]], **more: Any) -> Any:
    """Adapt a conversation, and check that the vendor accepts it."""
    adapted = adapt(kind, {"messages": messages}, model=MODELS.get(kind, "example"), tools=True, **more)
    assert message_objections(kind, adapted.sent) == []
    return adapted


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", TOOL_KINDS)
def test_two_results_of_one_call_are_joined(kind: str, strict: bool) -> None:
    adapted = sent(kind, [USER, call("call_1"), result("call_1", "one"), result("call_1", "two")], strict=strict)
    assert "one\n\ntwo" in texts_of(adapted.sent)
    joined = next(item for item in adapted.adjustments if item.param == "messages[3]")
    assert (joined.action, joined.to) == ("reshape", "messages[2]")


def test_a_repeated_result_is_left_out() -> None:
    adapted = sent("anthropic", [USER, call("call_1"), result("call_1", "one"), result("call_1", "one")], strict=True)
    assert texts_of(adapted.sent).count("one") == 1
    assert ("messages[3]", "drop") in adapted.actions()


@pytest.mark.parametrize("kind", ["anthropic", "openai", "gemini", "mistral"])
def test_a_late_result_joins_the_first_one(kind: str) -> None:
    later = [USER, call("a", "b"), result("a", "one"), result("b", "three"), {"role": "assistant", "content": "ok"}, result("a", "two")]
    assert "one\n\ntwo" in texts_of(sent(kind, [*later, USER]).sent)


def test_results_with_parts_are_joined_as_parts() -> None:
    parts = [{"type": "text", "text": "one"}]
    adapted = sent("anthropic", [USER, call("a"), result("a", parts), result("a", "two")])
    (block,) = adapted.sent["messages"][2]["content"]
    assert [part["text"] for part in block["content"]] == ["one", "two"]


@pytest.mark.parametrize("kind", ["vllm", "openai", "anthropic"])
def test_an_id_that_is_used_again_has_a_result_for_each_call(kind: str) -> None:
    adapted = sent(kind, [USER, call("a"), result("a", "one"), call("a"), result("a", "two"), USER])
    assert {"one", "two"} <= set(texts_of(adapted.sent))
    assert "one\n\ntwo" not in texts_of(adapted.sent)


def test_a_legacy_function_with_two_results_has_one_after_the_translation() -> None:
    legacy = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    results = [{"role": "function", "name": "f", "content": text} for text in ("one", "two")]
    assert "one\n\ntwo" in texts_of(sent("gemini", [USER, legacy, *results]).sent)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", TEXT_ONLY)
def test_an_image_in_a_result_follows_in_a_user_message(kind: str, strict: bool) -> None:
    picture = [{"type": "text", "text": "seen"}, IMAGE]
    adapted = sent(kind, [USER, call("a", "b"), result("a", picture), result("b", "two")], strict=strict)
    *_, first, second, last = adapted.sent["messages"]
    assert (first["role"], second["role"], last["role"]) == ("tool", "tool", "user")
    assert texts_of(first["content"]) == ["seen"]
    assert texts_of(last["content"]) == ["Result of f0:", "data:image/png;base64,AAAA"]
    assert ("messages[2].content", "reshape") in adapted.actions()


def test_a_result_of_an_image_alone_says_where_it_is() -> None:
    adapted = sent("openai", [USER, call("a"), result("a", [IMAGE]), USER])
    assert [message["role"] for message in adapted.sent["messages"]] == ["user", "assistant", "tool", "user", "user"]
    assert adapted.sent["messages"][2]["content"] == IN_NEXT_MESSAGE


@pytest.mark.parametrize("kind", ["mistral", "groq", "openrouter", "fireworks", "vllm"])
def test_an_image_stays_in_a_result_where_it_is_taken(kind: str) -> None:
    adapted = sent(kind, [USER, call("abcDEF123"), result("abcDEF123", [IMAGE])])
    assert adapted.sent["messages"][-1]["content"] == [IMAGE]


@pytest.mark.parametrize("kind", ["local", "goodfire"])
def test_an_image_in_a_conversation_that_continues_is_left_out_where_only_text_is_read(kind: str) -> None:
    asked = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}
    messages = [asked, {"role": "assistant", "content": "A cat."}, USER]
    adapted = sent(kind, messages)
    assert any("What is this?" in text and "[image left out]" in text for text in map(str, adapted.sent["messages"]))
    assert ("messages[0].content[1]", "drop", "image_url") in [(each.param, each.action, each.from_) for each in adapted.adjustments]
    with pytest.raises(Refusal, match=r"messages\[0\].content\[1\]"):
        adapt(kind, {"messages": messages}, strict=True)
    with pytest.raises(Refusal, match="image_url"):
        sent(kind, [asked])


def test_an_image_in_a_result_is_left_out_at_the_local_engine() -> None:
    adapted = sent("local", [USER, call("a"), result("a", [IMAGE])])
    assert ("drop", "image_url") in [(each.action, each.from_) for each in adapted.adjustments]
