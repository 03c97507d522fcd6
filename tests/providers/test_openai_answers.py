"""providers.answers, and the conversion of Anthropic's and Cohere's messages, usage and errors to OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.answers import read_answer, read_embeddings, read_logits, repair_content
from providers.anthropic import ANTHROPIC
from providers.anthropic.answers import openai_usage as anthropic_usage
from providers.anthropic.answers import stream_failure
from providers.anthropic.messages import Conversation
from providers.base import Body, Options
from providers.cohere import COHERE
from providers.cohere.answers import finish_of
from providers.cohere.answers import openai_usage as cohere_usage
from providers.rules.rule import compile_rules
from tests.support.each import each


@each("body", [b'{"choices":[]}', b'{"choices":[{}]}', b'{"choices":[{"message":1}]}', b"[]"])
def test_answer_without_a_message_is_rejected(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"choice|Expected"):
        read_answer(body, ())


def test_answer_keeps_its_bytes_and_finish_reasons() -> None:
    head = b'{"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": '
    body = head + b'{"role": "assistant", "content": "a"}, "finish_reason": "stop"}], "usage": null}'
    answer = read_answer(body, ())
    assert answer.body is body
    assert (answer.finish_reasons, answer.usage) == (("stop",), None)


def test_embeddings_and_logits_need_their_own_field() -> None:
    assert read_embeddings(b'{"data": []}').body == b'{"data": []}'
    assert read_logits(b'{"logits": {}}').body == b'{"logits": {}}'
    for read in (read_embeddings, read_logits):
        with pytest.raises(ValueError, match=r"it has no (list|object)"):
            read(b'{"other": 1}')


def test_content_parts_are_joined_and_thinking_is_separated() -> None:
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, "b"]
    message: dict[str, Any] = {"content": content}
    assert repair_content(message)
    assert message == {"content": "ab", "reasoning_content": "hm"}


def test_anthropic_prompt_tokens_include_the_cache() -> None:
    usage = anthropic_usage({"input_tokens": 1, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 4, "output_tokens": 8})
    assert usage is not None
    assert (usage["prompt_tokens"], usage["total_tokens"]) == (7, 15)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2, "cache_write_tokens": 4}
    assert anthropic_usage({"input_tokens": 1}) is None


def test_anthropic_stream_error_has_the_status_of_its_type() -> None:
    failure = stream_failure({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    assert (failure.status, failure.kind, failure.message) == (529, "overloaded", "busy")


def test_anthropic_conversation_has_a_separate_system_prompt() -> None:
    body = Body(b'{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi"}]}')
    compile_rules((Conversation("messages"),), "m", unknown="pass").apply(body, "Anthropic", Options(), {})
    assert json.loads(body.encode()) == {"messages": [{"role": "user", "content": "Hi"}], "system": "Be kind."}
    assert ANTHROPIC.operations == {"chat", "messages"}


def test_cohere_usage_prefers_processed_to_billed_tokens() -> None:
    billed = {"billed_units": {"input_tokens": 3.0, "output_tokens": 1.0}}
    processed = {**billed, "tokens": {"input_tokens": 9, "output_tokens": 2}}
    assert (cohere_usage(billed) or {})["total_tokens"] == 4
    assert (cohere_usage(processed) or {})["total_tokens"] == 11
    assert cohere_usage({"tokens": {"input_tokens": 1.5, "output_tokens": 2}}) is None


def test_cohere_error_finish_is_a_failure_and_498_an_invalid_token() -> None:
    assert finish_of("MAX_TOKENS") == "length"
    with pytest.raises(ValueError, match="the answer ended with ERROR"):
        finish_of("ERROR")
    assert COHERE.failure(498, {}, b"{}").kind == "auth"
