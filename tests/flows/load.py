"""Load from raw sockets: calls at a steady rate and long streams, with every response checked byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from tests.faults.client import Answer, FaultClient
from tests.flows.conftest import chat

CALLERS = 60
"""Number of callers that share the rate, so that one slow call does not lower it."""


class Load:
    """Sends `rate` calls a second, and `streams` streams of `chunks` chunks at a time. Counts the results and the faults."""

    def __init__(self, port: int, *, rate: float, streams: int, chunks: int, pace: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._port = port
        self._rate = rate
        self._streams = streams
        self._chunks = chunks
        self._pace = pace
        self._headers = headers
        self.calls = 0
        self.complete_streams = 0
        self.open_streams = 0
        self.faults: Counter[str] = Counter()
        self._stopped = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send load within the block. Return once every call and stream has ended."""
        tasks = [asyncio.create_task(self._call_steadily(number)) for number in range(CALLERS)]
        tasks += [asyncio.create_task(self._stream_steadily()) for _ in range(self._streams)]
        try:
            yield
        finally:
            self._stopped = True
            await asyncio.gather(*tasks)

    async def _call_steadily(self, number: int) -> None:
        """Send calls until stopped. Use a connection for as long as the gateway keeps it open."""
        pause = CALLERS / self._rate
        due = time.monotonic() + pause * number / CALLERS
        client: FaultClient | None = None
        while not self._stopped:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + pause, time.monotonic() - pause)
            try:
                client = client or await FaultClient.connect(self._port)
                await client.post(chat(max_tokens=1), self._headers)
                answer = await client.answer(60)
            except (OSError, AssertionError, TimeoutError) as error:
                self.faults[f"call: {type(error).__name__}: {error}"[:200]] += 1
                client = _close(client)
                continue
            self.calls += 1
            if answer.status != 200 or not answer.complete:
                self.faults[f"call: {answer.status} {answer.body[:150]!r}"] += 1
            if answer.header("connection") == "close":
                client = _close(client)
        _close(client)

    async def _stream_steadily(self) -> None:
        """Read one stream after another."""
        while not self._stopped:
            try:
                answer = await self._stream()
            except (OSError, AssertionError, TimeoutError) as error:
                self.faults[f"stream: {type(error).__name__}: {error}"[:200]] += 1
                continue
            fault = self._fault_in(answer)
            if fault:
                self.faults[f"stream: {fault}"[:200]] += 1
            else:
                self.complete_streams += 1

    async def _stream(self) -> Answer:
        async with await FaultClient.connect(self._port) as client:
            body: dict[str, Any] = chat(text=f"#chunks={self._chunks}##delay={self._pace}#", stream=True)
            await client.post(body, self._headers)
            await client.read_until(b'"content"', 60)
            self.open_streams += 1
            try:
                return await client.answer(60)
            finally:
                self.open_streams -= 1

    def _fault_in(self, answer: Answer) -> str:
        """Return the fault of a stream, or an empty string if all its chunks came in order."""
        if answer.status != 200 or not answer.complete:
            return f"{answer.status} {answer.body[-150:]!r}"
        if answer.events[-1] != b"[DONE]":
            return answer.events[-1].decode()
        return "" if answer.text == "".join(f"w{number} " for number in range(self._chunks)) else answer.text[-100:]


def _close(client: FaultClient | None) -> FaultClient | None:
    if client is not None:
        client.fin()
    return None
