"""Callers that send a request before the previous one is answered."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.fast.conftest import StartPair
from tests.faults.behaviours import chat_chunk, play, sse
from tests.faults.client import FaultClient, chat
from tests.faults.upstream_server import HANG, FaultUpstream

pytestmark = pytest.mark.usefixtures("steps")

FIRST_EVENT = sse(chat_chunk("one "), ending=HANG)


def has_requests(up: FaultUpstream, count: int) -> bool:
    return len(up.requests) == count


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("together", [False, True], ids=["one after the other", "together"])
async def test_the_call_in_progress_ends_at_a_disconnect(start_pair: StartPair, up: FaultUpstream, stream: bool, together: bool) -> None:
    pair = await start_pair(f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}" }}
models:
  m: up/mock
""")
    up.on(lambda request: True, FIRST_EVENT if stream else play(HANG))
    records: list[dict[str, Any]] = []
    for number, gateway in enumerate(pair.both):
        async with await FaultClient.connect(gateway.port) as client:
            await client.post(chat(stream=stream))
            if not together:
                await up.wait_for(partial(has_requests, count=number + 1))
            await client.post(chat(stream=stream))
            await up.wait_for(partial(has_requests, count=number + 1))
            if stream:
                await client.read_until(b"one ")
            client.rst()
        await up.wait_for(lambda up: up.requests[-1].link.closed is not None)
        records += await gateway.records(1)
        assert gateway.count("lockgate_internal_errors") == 0
    assert [(record["status"], record["aborted"]) for record in records] == [(499, "mid" if stream else "pre")] * 2
    assert len(up.requests) == 2
