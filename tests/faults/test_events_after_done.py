"""Events after [DONE] are discarded and counted, and the upstream connection is closed."""

from __future__ import annotations

import json

import pytest

from tests.faults.behaviours import SSE, WORDS, chat_chunk, chunked, sse
from tests.faults.client import CHAT_PATH, chat
from tests.faults.conftest import Serve
from tests.faults.test_stream_failures import DONE, ENDED, event, usage_chunk
from tests.faults.upstream_server import FaultUpstream, play
from tests.flows.live import eventually

STREAM = b"".join(map(event, (*WORDS, ENDED)))


async def test_u34_a_stream_ends_with_one_done(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "double-done"))
    answer = await gate.ask(chat(stream=True))
    assert answer.events[-1] == DONE
    assert answer.events.count(DONE) == 1
    assert answer.text == "one two "
    assert answer.complete
    await gate.record(status=200, stream_end="ok")


SURPLUS = b"data: [DONE]\n\n" + event(chat_chunk("late ")) + b": a comment\n\n" + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "steps",
    [
        (SSE + chunked(STREAM + b"data: [DONE]\n\n" + SURPLUS) + b"0\r\n\r\n",),
        (SSE + chunked(STREAM), 0.05, chunked(b"data: [DONE]\n\n" + SURPLUS) + b"0\r\n\r\n"),
        (SSE + chunked(STREAM + b"data: [DONE]\n\n"), 0.05, chunked(SURPLUS), 0.05, b"0\r\n\r\n"),
        (SSE + chunked(STREAM + b"data: [DONE]\n\nda"), 0.05, chunked(SURPLUS[2:30]), 0.05, chunked(SURPLUS[30:]) + b"0\r\n\r\n"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: LENGTH\r\n\r\n" + STREAM,
            b"data: [DONE]\n\n",
            0.05,
            SURPLUS,
        ),
    ],
    ids=["at once", "with the end", "later", "in the middle of a line", "without chunks"],
)
async def test_u34_events_after_done_are_counted_and_the_connection_is_not_reused(
    serve: Serve, up: FaultUpstream, steps: tuple[bytes | float, ...]
) -> None:
    length = b"%d" % len(STREAM + b"data: [DONE]\n\n" + SURPLUS)
    up.on(CHAT_PATH, play(*(step.replace(b"LENGTH", length) if isinstance(step, bytes) else step for step in steps)))
    gate = await serve((up, "mock"))
    for calls in (1, 2, 3):
        answer = await gate.ask(chat(stream=True))
        assert answer.complete
        assert (answer.events.count(DONE), answer.text) == (1, "one two ")
        await eventually(lambda calls=calls: gate.count("lockgate_sse_normalised") == 3 * calls)  # two further [DONE] and one chunk
        assert [request.link.requests for request in up.requests] == [1] * calls
    await eventually(lambda: gate.metric("lockgate_upstream_poisoned_total") == 3)


async def test_u34_the_last_valid_usage_of_a_stream_counts(serve: Serve, up: FaultUpstream) -> None:
    usages = ({"prompt_tokens": 3, "completion_tokens": 1}, {"prompt_tokens": 3, "completion_tokens": 7}, {"prompt_tokens": -1})
    up.on(CHAT_PATH, sse(*WORDS, ENDED, *map(usage_chunk, usages), DONE))
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=True, stream_options={"include_usage": True}))
    returned = [json.loads(event)["usage"] for event in answer.events[:-1] if b"usage" in event]
    assert returned == [{"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}]
    await gate.record(prompt_tokens=3, output_tokens=7, estimated=None)
    assert gate.count("lockgate_tokens", "output", "reported") == 7
