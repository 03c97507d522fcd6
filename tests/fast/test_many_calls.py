"""Many calls in flight, whose steps run in rounds: each call has one answer or is left, one log line and one row, and leaves nothing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from gateway.http.rounds import MAX_STEPS
from tests.faults.behaviours import END, SSE, chat_chunk, chunked
from tests.faults.client import CHAT_PATH, FaultClient, chat
from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import Exchange
from tests.flows.live import eventually, live


async def test_a_caller_that_has_its_answer_has_freed_its_slot_although_many_streams_end_together(up: FaultUpstream) -> None:
    streams, release = 4 * MAX_STEPS, asyncio.Event()

    async def end_together(exchange: Exchange) -> None:
        await exchange.send(SSE + chunked(b"data: " + json.dumps(chat_chunk("a")).encode() + b"\n\n"))
        await release.wait()
        await exchange.send(chunked(b"data: " + json.dumps(chat_chunk(finish="stop")).encode() + b"\n\ndata: [DONE]\n\n") + END)

    up.on(CHAT_PATH, end_together)
    models = "".join(f"  m{number}: {{ targets: up/mock, limits: {{ concurrent: 1 }} }}\n" for number in range(streams))
    yaml = f"providers:\n  up: {{ type: openai-compatible, base_url: '{up.base_url}', max_connections: 1000 }}\nmodels:\n{models}"
    async with live(yaml) as gateway:


        async def call_again_if_last(model: str) -> list[int]:
            async with await FaultClient.connect(gateway.port) as client:
                await client.post(chat(model, user=model, stream=True))
                answers = [(await client.answer()).status]
                if model == up.requests[streams - 1].json["user"]:
                    await client.post(chat(model, user=model, stream=True))
                    answers.append((await client.answer()).status)
                return answers

        callers = [asyncio.create_task(call_again_if_last(f"m{number}")) for number in range(streams)]
        await eventually(lambda: gateway.gateway.metrics.in_flight == streams and len(up.requests) == streams)
        release.set()
        answers = Counter(status for each in await asyncio.gather(*callers) for status in each)
        assert answers == {200: streams + 1}
        await gateway.records(streams + 1)
