"""The event loop does little while prompts of 400 KB are counted. The proof prints its CPU time per prompt."""

from __future__ import annotations

import asyncio
import json
import random
import string
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.conftest import Figure
from tests.flows.live import live
from tests.limits.test_prompt_counts_flow import TOKEN, english, yaml

PROMPTS = {"English": 100, "random letters": 20}


@contextmanager
def handle_times(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Record the CPU time of each callback of the event loop, in ms."""
    times: list[float] = []
    run = asyncio.events.Handle._run

    def timed(handle: asyncio.events.Handle) -> None:
        began = time.thread_time()
        run(handle)
        times.append((time.thread_time() - began) * 1000)

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.events.Handle, "_run", timed)
        yield times


def post(address: str, content: str) -> int:
    """Send one prompt. Return the status."""
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]})
    with closing(HTTPConnection(address)) as connection:
        connection.request("POST", "/v1/chat/completions", body, headers)
        return connection.getresponse().status


@pytest.mark.prove
@pytest.mark.parametrize("kind", list(PROMPTS))
async def test_the_event_loop_does_little_for_a_large_prompt(monkeypatch: pytest.MonkeyPatch, figure: Figure, kind: str) -> None:
    letters = random.Random(1)
    text = english(400_000) if kind == "English" else "".join(letters.choices(string.ascii_letters, k=400_000))
    longest: list[float] = []
    async with live(yaml("http://127.0.0.1:1/v1", "tokens: 10k/min"), environ={"K": "sk-upstream"}) as gateway:
        address = urlsplit(gateway.url).netloc
        await asyncio.to_thread(post, address, text)
        with handle_times(monkeypatch) as times:
            for number in range(PROMPTS[kind]):
                times.clear()
                assert await asyncio.to_thread(post, address, f"{number} {text}") == 429  # counted, and over the limit
                longest.append(max(times))
    longest.sort()
    figure(f"{kind}, longest callback, p50", longest[len(longest) // 2], "ms")
    figure(f"{kind}, longest callback, p99", longest[len(longest) * 99 // 100 - 1], "ms")
