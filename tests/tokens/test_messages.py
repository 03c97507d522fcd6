"""Messages are split into texts and tokens of everything else."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens.messages import MessageParts, is_short, messages_of, read_message
from providers.base import Body
from providers.media.table import UNKNOWN, media_rules
from tests.support.each import each
from tests.support.pictures import image_part

GPT = media_rules("openai", "gpt-4o")


def body(messages: list[Any], **more: Any) -> Body:
    return Body(json.dumps({"messages": messages, **more}).encode())


@each(
    ("message", "parts"),
    [
        ({"role": "user", "content": "hi"}, MessageParts(["hi"], 4)),
        ({"role": "user", "name": "x", "content": "hi"}, MessageParts(["hi", "x"], 5)),
        ({"role": "user", "content": [{"type": "text", "text": "hi"}]}, MessageParts(["hi"], 4)),
        ({"role": "user", "content": [image_part(1024, 1024, 9_000)]}, MessageParts([], 4, 765, plain=False)),
        ({"role": "user", "content": [image_part(1024, 1024, 900_000, detail="low")]}, MessageParts([], 4, 85, plain=False)),
        ({"role": "tool", "tool_call_id": "c1", "content": "{}"}, MessageParts(["{}", "c1"], 4, plain=False)),
        ({"role": "user", "content": [5, {"type": "text", "text": None}]}, MessageParts([""], 4)),
        ({"role": "user", "content": None}, MessageParts([], 4)),
        (5, MessageParts([], 3, plain=False)),
    ],
)
def test_a_message_has_texts_and_other_tokens(message: Any, parts: MessageParts) -> None:
    assert read_message(message, GPT) == parts


def test_a_message_with_invalid_text_is_counted_by_its_size() -> None:
    source = b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}, {"role": "user", "content": "hi"}]}'
    first, second = messages_of(Body(source))
    assert read_message(first, UNKNOWN).fixed > 10
    assert second == {"role": "user", "content": "hi"}


def test_a_picture_does_not_make_a_prompt_long() -> None:
    question = {"role": "user", "content": [{"type": "text", "text": "x" * 90}, image_part(1024, 1024, 500_000)]}
    assert is_short(body([question]), 100)
    assert not is_short(body([question]), 80)


@each(
    "message",
    [
        {"role": "user", "content": "x" * 200},
        {"role": "user", "content": [{"type": "text", "text": "x" * 200}]},
        {"role": "assistant", "tool_calls": [{"function": {"arguments": "x" * 200}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "A" * 90_000}}]},
    ],
)
def test_long_texts_make_a_prompt_long(message: dict[str, Any]) -> None:
    assert not is_short(body([message]), 100)
    assert is_short(body([message]), 1 << 50)


@each("name", ["tools", "functions", "response_format", "system_prompt"])
def test_tools_and_the_system_prompt_make_a_prompt_long(name: str) -> None:
    assert not is_short(body([], **{name: ["x" * 200]}), 100)


NAMES = st.sampled_from(["type", "text", "content", "image_url", "url", "file", "role"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_no_content_breaks_the_count(content: Any) -> None:
    message = {"role": "user", "content": [content] if isinstance(content, dict) else content}
    read_message(message, UNKNOWN)
    is_short(body([message, content]), 10)
