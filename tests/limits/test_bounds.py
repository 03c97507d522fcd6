"""Strict limits reserve an upper bound of the prompt's tokens, and refuse content that has none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.call import Call
from gateway.errors import BadRequest
from gateway.limits.bounds import TOKENS_PER_MESSAGE, TOKENS_PER_TOOL, TOOL_INSTRUCTION_TOKENS, max_prompt_tokens, set_output_cap
from gateway.tokens.counter import SHARED_COUNTER
from gateway.tokens.tokenizer import tokenizer_for
from providers.base import Body
from tests.support.each import each


def call(**fields: Any) -> Call:
    """A chat call with this body."""
    raw = msgspec.json.encode(fields)
    return Call("chat", "/v1/chat/completions", body=Body(raw), body_bytes=len(raw))


def test_the_bound_is_above_the_count_of_text() -> None:
    """Random-looking text has the most tokens for its bytes."""
    messages = [{"role": "user", "content": "q7#Zß✓" * 200}, {"role": "assistant", "content": "0 1 2 3 " * 50}]
    one = call(messages=messages)
    assert one.body is not None
    assert max_prompt_tokens(one) > SHARED_COUNTER.count_now(one.body, tokenizer_for("openai", "gpt-4o")).total()


def test_every_message_tool_and_answer_adds_its_share() -> None:
    message, tool = {"role": "user", "content": "x"}, {"type": "function", "function": {"name": "f"}}
    bare, twice, tools = call(messages=[message]), call(messages=[message, message]), call(messages=[message], tools=[tool])
    base = max_prompt_tokens(bare)
    assert max_prompt_tokens(twice) - base == TOKENS_PER_MESSAGE + twice.body_bytes - bare.body_bytes
    assert max_prompt_tokens(tools) - base == TOOL_INSTRUCTION_TOKENS + TOKENS_PER_TOOL + tools.body_bytes - bare.body_bytes
    three = call(messages=[message], n=3)
    assert max_prompt_tokens(three) == 3 * (base + three.body_bytes - bare.body_bytes)


@each("kind", ["image_url", "input_audio", "file", None])
def test_content_without_a_bound_is_refused_with_its_place(kind: str | None) -> None:
    one = call(messages=[{"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": kind}]}])
    with pytest.raises(BadRequest) as refused:
        max_prompt_tokens(one)
    assert (refused.value.param, refused.value.code) == ("messages[1].content", "unsupported_content")
    assert f"content of type '{kind}'" in refused.value.message


def test_the_reserved_cap_is_set_and_reported() -> None:
    one = call(messages=[])
    assert one.body is not None
    adjustment = set_output_cap(one.body, 300)
    assert one.body.get("max_tokens") == 300
    assert (adjustment.param, adjustment.action, adjustment.to) == ("max_tokens", "set_default", 300)
