"""Measure token counting and the fitting of conversations into a context window: `python -m benchmarks.tokens`.

Everything runs in one process, without a network. The texts are Python's own manual, Python source and random JSON. Texts of 2 kB
are counted as on the event loop, and longer ones with toktok-rs, as in the tokenizer process. The first count of a conversation
reads all of it; the count of the next turn reads only the new part. Memory is the increase of PSS while a tokenizer is loaded.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any

from benchmarks.measure import memory_kib
from gateway.tokens import truncation as context
from gateway.tokens.counter import TokenCount, TokenCounter
from gateway.tokens.quick_count import QuickCount
from gateway.tokens.tokenizer import Tokenizer
from gateway.tokens.truncation import PromptBudget
from providers.base import Body

TEXT = "\n".join(topics.values())
"""English text: Python's manual, as `help()` shows it."""
O200K, CL100K = Tokenizer("o200k_base", exact=True), Tokenizer("cl100k_base", exact=True)

Row = tuple[str, str]


def main() -> None:
    """Measure and print. No file is written, because the figures depend on the machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokens", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    print(report(parser.parse_args().seconds))


def report(seconds: float) -> str:
    """Return the report as a table."""
    draw = random.Random(7)
    counter = TokenCounter()
    rows = [
        load_row("for the event loop", lambda: counted(QuickCount(O200K.name))),
        load_row("for the tokenizer process", lambda: counter.count_now(Body(b'{"messages": []}'), O200K)),
    ]
    samples = {"English": TEXT, "Python": inspect.getsource(argparse), "JSON": as_json(draw, 4_000)}
    rows += [short_row(name, text, seconds) for name, text in samples.items()]
    for name, text in samples.items():
        rows += [speed_row(f"{name}, {one.name}", text, one, seconds) for one in (O200K, CL100K)]
    for turns in (10, 100, 1000):
        rows += turn_rows(draw, counter, turns, seconds)
    rows.append(eviction_row(seconds))
    return "\n".join(["| what | figure |", "| --- | --- |", *(f"| {name} | {figure} |" for name, figure in rows)])


def load_row(name: str, load: Callable[[], object]) -> Row:
    """Return the time and the memory that it takes to load a tokenizer."""
    before, began = memory_kib(os.getpid()), time.perf_counter()
    loaded = load()
    took, more = time.perf_counter() - began, memory_kib(os.getpid()) - before
    del loaded  # it is in memory until it is measured
    return f"loading o200k_base, {name}", f"{took * 1000:.0f} ms, {more / 1024:.1f} MB"


def counted(count: QuickCount) -> QuickCount:
    """Count a text, and return the function that counted it."""
    count([TEXT[:2_000]])
    return count


def short_row(name: str, text: str, seconds: float) -> Row:
    """Return the times to count a text of 2 kB on the event loop: with the vocabulary alone, and when the words of the text are known."""
    count = QuickCount(O200K.name)
    count(["a"])

    def again() -> None:
        count([text[:2_000]])

    def first() -> None:
        count._known.clear()
        again()

    times = [median_seconds(first, seconds), median_seconds(again, seconds)]
    return f"2 kB of {name} on the event loop: new words, then known words", f"{times[0] * 1e6:.0f} us, then {times[1] * 1e6:.0f} us"


def speed_row(name: str, text: str, tokenizer: Tokenizer, seconds: float) -> Row:
    """Return tokens per second in one thread, for the first count and for later counts: toktok-rs caches words that it has seen."""
    counter = TokenCounter()
    body = Body(json.dumps({"messages": [{"role": "user", "content": text}]}).encode())
    counter.count_now(Body(b'{"messages": []}'), tokenizer)

    def count() -> None:
        counter._cached.clear()
        counter.count_now(body, tokenizer)

    began = time.perf_counter()
    tokens = counter.count_now(body, tokenizer).total()
    speeds = [tokens / (time.perf_counter() - began), tokens / median_seconds(count, seconds)]
    first, later = (f"{speed / 1e6:.1f} million ({speed * len(text) / tokens / 1e6:.0f} MB)" for speed in speeds)
    return f"tokens counted per second: {name}", f"{first}, later {later}"


def turn_rows(draw: random.Random, counter: TokenCounter, turns: int, seconds: float) -> list[Row]:
    """Return the times to count a new conversation, and the same conversation with one more message."""
    messages = [{"role": "user", "content": english(draw, 60)} for _ in range(turns)]
    body = chat(messages)

    def count_all() -> None:
        counter._cached.clear()
        counter.count_now(body, O200K)

    first = median_seconds(count_all, seconds)
    numbers = iter(range(10**9))

    def next_turn() -> None:
        counter.count_now(grown[next(numbers) % len(grown)], O200K)

    grown = [chat([*messages, {"role": "user", "content": english(draw, 60)}]) for _ in range(400)]
    again = median_seconds(next_turn, seconds, most=len(grown))
    size = len(body.encode())
    return [(f"{turns} messages ({size / 1000:.0f} kB): new, then one turn later", f"{first * 1e6:.0f} us, then {again * 1e6:.0f} us")]


def eviction_row(seconds: float) -> Row:
    """Return the time to choose the evicted messages of a conversation of 9,999 messages."""
    roles = ("user", "assistant")
    messages: list[dict[str, Any]] = [{"role": roles[at % 2], "content": "x"} for at in range(9_999)]
    counted = TokenCount((50,) * len(messages), 3, 1.0, True, O200K.name)

    def evict() -> None:
        leaving = context.eviction_order(context.evictable_groups(messages), "oldest-first")
        totals = counted.totals(leaving)
        steps = context.fewest_groups(len(leaving), PromptBudget(100_000, 100_000, 100_000))
        asked = next(steps)
        try:
            while True:
                asked = steps.send(totals[asked])
        except StopIteration:
            return

    return "choosing the messages to evict from 9,999", f"{median_seconds(evict, seconds) * 1000:.1f} ms"


def median_seconds(work: Callable[[], None], seconds: float, most: int = 10**9) -> float:
    """Return the median time of `work`, which runs three to `most` times."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 3 or (time.perf_counter() < end and len(taken) < most):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def chat(messages: list[dict[str, Any]]) -> Body:
    """Return a chat request body."""
    return Body(json.dumps({"model": "m", "messages": messages}).encode())


def english(draw: random.Random, words: int) -> str:
    """Return a random part of the manual."""
    at = draw.randrange(len(TEXT) - 8 * words)
    return TEXT[at : at + 5 * words]


def as_json(draw: random.Random, records: int) -> str:
    """Return records like those that tools return."""
    return json.dumps(
        [{"id": draw.randrange(10**6), "price": draw.random(), "name": draw.choice(("oak", "elm", "ash"))} for _ in range(records)]
    )


if __name__ == "__main__":
    main()
