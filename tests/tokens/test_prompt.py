"""The count of a prompt for each target: once for targets that count alike, in a thread if it takes long."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.tokens.counter import MAX_INLINE_BYTES, TokenCounter
from gateway.tokens.prompt import PromptCounts
from gateway.tokens.tokenizer import Tokenizer, tokenizer_for
from providers.base import Body, Operation
from tests.providers.adapting import target_for
from tests.support.each import each
from tests.support.pictures import image_part

GPT, MINI, CLAUDE = target_for("openai", "gpt-4o"), target_for("openai", "gpt-4o-mini"), target_for("anthropic", "claude-opus-4-8")
LONG = "word " * MAX_INLINE_BYTES


class Words:
    """Counts words, and records the size of the texts by thread."""

    def __init__(self) -> None:
        self.sizes: list[tuple[bool, int]] = []

    def load(self, tokenizer: Tokenizer) -> Callable[[list[str]], list[int]]:
        return self.count

    def count(self, texts: list[str]) -> list[int]:
        self.sizes.append((threading.current_thread() is threading.main_thread(), sum(map(len, texts))))
        return [len(text.split()) for text in texts]


def prompt(counter: TokenCounter, operation: Operation = "chat", **fields: Any) -> PromptCounts:
    source = json.dumps(fields).encode()
    return PromptCounts(Body(source), len(source), operation, counter)


async def loaded() -> tuple[Words, TokenCounter]:
    words = Words()
    counter = TokenCounter(words.load)
    for target in (GPT, CLAUDE):
        await counter.load(tokenizer_for(target.kind.type, target.model))
    words.sizes.clear()
    return words, counter


def chat(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


async def test_a_short_prompt_is_counted_at_once() -> None:
    words, counter = await loaded()
    counts = prompt(counter, **chat(text("one two three")))
    assert counts.bound(GPT) == 3 + 4 + 3
    assert counts.typical(GPT, 4) == counts.bound(GPT)
    assert words.sizes == [(True, 13)]


async def test_a_long_prompt_is_counted_in_a_thread_once_for_each_way_to_count() -> None:
    words, counter = await loaded()
    counts = prompt(counter, **chat(text(LONG)))
    assert not counts.known(GPT)
    assert counts.bound(GPT) > 2 * MAX_INLINE_BYTES, "an upper bound by size"
    await counts.count([GPT, GPT, CLAUDE])
    await counts.count([CLAUDE])
    assert counts.bound(GPT) == MAX_INLINE_BYTES + 7
    assert counts.bound(CLAUDE) == -(-(MAX_INLINE_BYTES + 7) * 6 // 5)
    assert words.sizes == [(False, len(LONG))], "the count of the text is cached"


async def test_the_next_turn_of_a_long_conversation_is_counted_at_once() -> None:
    words, counter = await loaded()
    tools = [{"type": "function", "function": {"name": "f", "description": LONG[:-1], "parameters": {}}}]
    first = prompt(counter, **chat(text(LONG)), tools=tools)
    assert first.known(GPT) is None
    await first.count([GPT])
    words.sizes.clear()
    messages = [("user", LONG), ("assistant", "one"), ("user", "two three")]
    turn = prompt(counter, messages=[{"role": role, "content": content} for role, content in messages], tools=tools)
    counted = turn.known(GPT)
    assert counted == first.known(GPT) + 5 + 6  # type: ignore[operator]
    assert words.sizes == [(True, len("one") + len("two three"))]


async def test_a_new_text_of_a_known_length_is_counted_in_a_thread() -> None:
    words, counter = await loaded()
    await prompt(counter, **chat(text(LONG))).count([GPT])
    words.sizes.clear()
    other = prompt(counter, **chat(text(LONG.upper())))
    assert other.known(GPT) is None
    assert words.sizes == []
    await other.count([GPT])
    assert other.known(GPT) == MAX_INLINE_BYTES + 7
    assert words.sizes == [(False, len(LONG))]


async def test_images_are_counted_as_each_target_does_without_a_thread() -> None:
    words, counter = await loaded()
    counts = prompt(counter, **chat(text("what?"), image_part(4032, 3024, 500_000)))
    assert counts.known(GPT)
    assert [counts.bound(target) for target in (GPT, MINI)] == [8 + 765, 8 + 2_833 + 4 * 5_667]
    assert all(on_loop for on_loop, _ in words.sizes)


@each(
    ("fields", "takes_long"),
    [
        (chat(text("hi"), image_part(4032, 3024, 500_000)), False),
        (chat(text(LONG)), True),
        ({"messages": "nonsense" * MAX_INLINE_BYTES}, False),
        ({"prompt": LONG}, False),
    ],
)
def test_only_long_texts_take_long(fields: dict[str, Any], takes_long: bool) -> None:
    assert prompt(TokenCounter(Words().load), **fields).takes_long(GPT) is takes_long
    assert prompt(TokenCounter(Words().load), "embeddings", input=LONG).takes_long(GPT)


async def test_without_a_tokenizer_texts_are_estimated_by_size_and_images_are_counted() -> None:
    counts = prompt(TokenCounter(Words().load), **chat(text("x" * 400), image_part(4032, 3024, 500_000)))
    assert not counts.known(GPT)
    assert 765 + 100 < counts.typical(GPT, 4) < 765 + 130
    assert 765 + 200 < counts.bound(GPT) < 765 + 260


@each(
    ("operation", "fields", "tokens"),
    [
        ("embeddings", {"input": [1, 2, 3]}, 3),
        ("embeddings", {"input": ["one two", "three"]}, 3),
        ("embeddings", {"input": LONG}, MAX_INLINE_BYTES),
        ("completions", {"prompt": "one two"}, 2),
        ("rerank", {"query": "one two", "documents": ["three", LONG]}, MAX_INLINE_BYTES + 5),
    ],
)
def test_inputs_are_counted_whatever_their_size(operation: Operation, fields: dict[str, Any], tokens: int) -> None:
    async def run() -> None:
        _, counter = await loaded()
        counts = prompt(counter, operation, **fields)
        await counts.count([GPT])
        assert counts.bound(GPT) == tokens

    asyncio.run(run())


@pytest.mark.parametrize("messages", [[5, None, {"content": 5}], "text", {"role": "user"}])
async def test_an_invalid_body_is_estimated_by_its_size(messages: Any) -> None:
    _, counter = await loaded()
    counts = prompt(counter, messages=messages, more="x" * 90_000)
    await counts.count([GPT])
    assert counts.bound(GPT) >= 0


async def test_a_body_without_messages_is_estimated_by_its_size() -> None:
    _, counter = await loaded()
    counts = prompt(counter, "logits", prompt="x" * 1000)
    await counts.count([GPT])
    assert counts.bound(GPT) > 500
