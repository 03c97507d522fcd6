"""Token counts: exact where the tokenizer is known, cached per message, and in a thread for large texts."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tokens.counter import MAX_INLINE_BYTES, TokenCount, TokenCounter
from gateway.tokens.pieces import SlowTextError
from gateway.tokens.tokenizer import BY_BYTES, FALLBACK, FALLBACK_FACTOR, Tokenizer, tokenizer_for
from gateway.tokens.tokenizer_process import TokenizerProcess
from providers.base import Body
from providers.media.table import MediaRules, media_rules
from tests.support.pictures import image_part

EXACT = Tokenizer("o200k_base", exact=True)
shared = TokenCounter()


def body(messages: list[dict[str, Any]], **more: Any) -> Body:
    return Body(json.dumps({"model": "m", "messages": messages, **more}).encode())


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


class Recorded:
    """A tokenizer of words that records its texts and threads."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.threads: set[str] = set()
        self.loads = 0

    def load(self, tokenizer: Tokenizer) -> Callable[[list[str]], list[int]]:
        self.loads += 1
        return self.count

    def count(self, texts: list[str]) -> list[int]:
        self.texts += texts
        if texts:
            self.threads.add(threading.current_thread().name)
        return words(texts)


def test_counts_match_openais_cookbook() -> None:
    """The example of OpenAI's cookbook on counting tokens: 124 for gpt-4o, 129 for gpt-4."""
    messages = [
        {
            "role": "system",
            "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
        },
        {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
        {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
        {
            "role": "system",
            "name": "example_user",
            "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        },
        {"role": "system", "name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
        {
            "role": "user",
            "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
        },
    ]
    count = shared.count_now(body(messages), EXACT)
    assert (count.total(), count.exact, count.tokenizer) == (124, True, "o200k_base")
    assert shared.count_now(body(messages), Tokenizer("cl100k_base", exact=True)).total() == 129


def test_the_fallback_count_is_scaled_and_labelled() -> None:
    messages = [{"role": "user", "content": "one two three"}]
    exact, scaled = shared.count_now(body(messages), EXACT), shared.count_now(body(messages), FALLBACK)
    assert exact.total() == 10
    assert scaled.total() == 12 == 10 * FALLBACK_FACTOR
    assert (scaled.exact, scaled.tokenizer) == (False, "o200k_base x 1.2")


@given(st.lists(st.text(max_size=40), max_size=8), st.sets(st.integers(0, 7)))
def test_the_total_without_messages_is_that_of_the_shorter_conversation(texts: list[str], without: set[int]) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    evicted = {index for index in without if index < len(messages)}
    shorter = [message for index, message in enumerate(messages) if index not in evicted]
    assert shared.count_now(body(messages), EXACT).total(evicted) == shared.count_now(body(shorter), EXACT).total()


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}},
    ],
    ids=["tools", "schema"],
)
def test_tools_and_schemas_are_counted_as_an_estimate(more: dict[str, Any]) -> None:
    plain = shared.count_now(body([{"role": "user", "content": "hi"}]), EXACT)
    count = shared.count_now(body([{"role": "user", "content": "hi"}], **more), EXACT)
    assert count.total() > plain.total()
    assert not count.exact


def test_images_count_by_their_pixels_not_by_their_bytes() -> None:
    def count(tokenizer: Tokenizer, rules: MediaRules, **more: str) -> TokenCount:
        content = [{"type": "text", "text": "What is it?"}, image_part(4032, 3024, 90_000, **more)]
        return shared.count_now(body([{"role": "user", "content": content}]), tokenizer, rules)

    high, low = count(EXACT, media_rules("openai", "gpt-4o")), count(EXACT, media_rules("openai", "gpt-4o"), detail="low")
    assert (high.total(), low.total(), high.exact) == (765 + 11, 85 + 11, False)
    claude = count(FALLBACK, media_rules("anthropic", "claude-opus-4-8"))
    assert 4_784 <= claude.total() - 12 <= 4_786, "the factor of the tokenizer does not apply to images"


def test_tool_calls_are_counted() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    with_call = shared.count_now(body(messages), EXACT)
    assert with_call.messages[1] > 15
    assert not with_call.exact


def test_the_text_of_a_special_token_is_counted_as_text() -> None:
    assert shared.count_now(body([{"role": "user", "content": "<|endoftext|>"}]), EXACT).messages[0] > 6


def test_half_a_surrogate_pair_is_counted() -> None:
    source = b'{"messages": [{"role": "user", "content": "\xed\xa0\x80 and more"}, {"role": "user", "content": "hi"}]}'
    count = shared.count_now(Body(source), EXACT)
    assert count.messages[0] > 10
    assert not count.exact


async def test_counts_of_messages_are_cached() -> None:
    seen = Recorded()
    counter = TokenCounter(seen.load)
    history = [{"role": "user", "content": f"turn {index} of a long conversation of two"} for index in range(5)]
    first = await counter.count(body(history), EXACT)
    assert seen.texts == [f"turn {index} of a long conversation of two" for index in range(5)]
    second = await counter.count(body([*history, {"role": "user", "content": "and now something longer than that"}]), EXACT)
    assert seen.texts[5:] == ["and now something longer than that"]
    assert second.messages[:5] == first.messages
    assert seen.loads == 1


async def test_each_tokenizer_has_its_own_cached_counts() -> None:
    counter = TokenCounter(lambda tokenizer: words if tokenizer.name == "a" else lambda texts: [100 for _ in texts])
    asked = body([{"role": "user", "content": "hi"}])
    assert (await counter.count(asked, Tokenizer("a"))).messages == (5,)
    assert (await counter.count(asked, Tokenizer("b"))).messages == (104,)


async def test_large_texts_and_loading_run_in_a_thread() -> None:
    seen = Recorded()
    counter = TokenCounter(seen.load)
    await counter.count(body([{"role": "user", "content": "first"}]), EXACT)  # loads
    here = threading.current_thread().name
    assert here not in seen.threads
    await counter.count(body([{"role": "user", "content": "second"}]), EXACT)
    assert here in seen.threads
    seen.threads.clear()
    await counter.count(body([{"role": "user", "content": "x " * MAX_INLINE_BYTES}]), EXACT)
    assert here not in seen.threads


async def test_the_event_loop_runs_while_megabytes_are_counted() -> None:
    counter = TokenCounter()
    await counter.load(EXACT)
    text = "The quick brown fox jumps over the lazy dog. " * 100_000
    counting = asyncio.ensure_future(counter.count(body([{"role": "user", "content": text}]), EXACT))
    turns = 0
    while not counting.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 3
    assert counting.result().total() > 900_000


async def test_only_the_tokenizer_process_loads_the_library() -> None:
    """Loading the library into this process would take 64 MB and stop the event loop for half a second."""
    process = TokenizerProcess()
    counter = TokenCounter(lambda tokenizer: pytest.fail("loaded into this process"), process)
    await counter.load(EXACT)
    assert counter.is_loaded(EXACT)
    short = body([{"role": "user", "content": "a short text"}])
    assert (await counter.count(short, EXACT)).total() == counter.count_now(short, EXACT).total() == 3 + 7
    assert process._process is None, "it starts when it is first needed"
    slow = body([{"role": "user", "content": " ".join("".join(random.Random(at).choices("bcdfghjklm", k=9)) for at in range(900))}])
    with pytest.raises(SlowTextError):
        counter.count_now(slow, EXACT)
    assert (await counter.count(slow, EXACT)).total() == shared.count_now(slow, EXACT).total()
    assert process._process is not None
    process.stop()


async def test_an_invalid_tokenizer_file_is_replaced_by_the_fallback(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    count = await TokenCounter().count(body([{"role": "user", "content": "hi"}]), tokenizer_for("vllm", "mine", str(path)))
    assert count.tokenizer == FALLBACK.label()
    assert count.factor == FALLBACK_FACTOR


async def test_a_tokenizer_file_counts_as_an_estimate() -> None:
    counter = TokenCounter(lambda tokenizer: words)
    count = await counter.count(body([{"role": "user", "content": "one two three"}]), tokenizer_for("vllm", "mine", "/t/tokenizer.json"))
    assert (count.messages, count.exact, count.tokenizer) == ((7,), False, "tokenizer.json")


async def test_without_the_package_two_bytes_count_as_a_token() -> None:
    def missing(tokenizer: Tokenizer) -> Callable[[list[str]], list[int]]:
        raise ImportError("toktok")

    count = await TokenCounter(missing).count(body([{"role": "user", "content": "ä" * 50}]), FALLBACK)
    assert count.tokenizer == BY_BYTES.label()
    assert count.messages == (54,)
    assert not count.exact


def test_the_cache_of_counts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.tokens.count_cache.MAX_CACHED_COUNTS", 32)
    counter = TokenCounter(lambda tokenizer: words)
    for turn in range(5):
        counter.count_now(body([{"role": "user", "content": f"{turn} {index} " + "long " * 8} for index in range(8)]), EXACT)
    (cached,) = counter._cached.values()
    assert len(cached._counts) == 30, "the oldest 1/16 is dropped, in addition to those beyond the limit"
