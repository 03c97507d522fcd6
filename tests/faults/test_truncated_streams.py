"""A stream of 40 events, cut after any byte by FIN or RST: the call falls back, or the stream ends with an error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.faults.behaviours import SSE, chat_chunk, chunked
from tests.faults.client import CHAT_PATH, Answer, FaultClient, chat
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FIN, RST, Exchange, FaultUpstream, play
from tests.running import Figure

WORDS = [f"w{number} " for number in range(37)]
EVENTS = [chat_chunk("", role="assistant"), *map(chat_chunk, WORDS), chat_chunk(finish="stop")]
PIECES = [b"data: " + data + b"\n\n" for data in (*(json.dumps(event).encode() for event in EVENTS), b"[DONE]")]
WIRE = SSE + b"".join(map(chunked, PIECES)) + b"0\r\n\r\n"
"""All bytes that the upstream sends, with head and chunk framing."""


def _ends() -> list[int]:
    """Return the offsets at which the events are complete."""
    ends, offset = [], len(SSE)
    for piece in PIECES:
        offset += len(chunked(piece))
        ends.append(offset - len(b"\r\n"))
    return ends


ENDS = _ends()
CONTENT_BEGUN, FINISHED = ENDS[1], ENDS[-2]
"""Offsets at which the first content and the finish reason are complete."""
ENDINGS = {"fin": FIN, "rst": RST}
CONCURRENT_CALLS = 24
WARM_UP_CALLS = 60


async def cut_as_requested(exchange: Exchange) -> None:
    """Send part of the stream and break off. `user` of the request has the ending and the length: `rst:123`."""
    ending, _, offset = exchange.request.json["user"].partition(":")
    sent = WIRE[: int(offset)]
    await play(*((sent,) if sent else ()), ENDINGS[ending])(exchange)


@dataclass
class Outcomes:
    """Number of cuts by result: a fallback, an exception of the openai package, or a complete stream."""

    fallbacks: int = 0
    raised: int = 0
    complete: int = 0
    parsed: dict[bytes, tuple[str, openai.APIError | None]] = field(default_factory=dict)

    def read(self, body: bytes) -> tuple[str, openai.APIError | None]:
        """Return the text and the exception of the openai package for these bytes. Equal bytes are parsed once."""
        if body not in self.parsed:
            self.parsed[body] = read_by_openai(body)
        return self.parsed[body]

    def check(self, ending: str, offset: int, answer: Answer) -> None:
        """Check and count the answer to a stream cut after byte `offset`."""
        case = (ending, offset)
        assert answer.status == 200, case
        text, error = self.read(answer.body)
        if answer.header("x-gateway-target") == "p1/mock":
            assert (offset < CONTENT_BEGUN, text, error) == (True, "w0 w1 w2 w3 w4 ", None), case
            self.fallbacks += 1
        elif error is None:
            assert offset >= FINISHED, case
            assert (text, answer.events[-1]) == ("".join(WORDS), b"[DONE]"), case
            self.complete += 1
        else:
            assert offset >= CONTENT_BEGUN, case
            assert offset < FINISHED or ending == "rst", case
            assert error.code == ("upstream_truncated" if ending == "fin" else "upstream_reset"), case
            complete = sum(end <= offset for end in ENDS[:-2])
            assert text == "".join(WORDS[: complete - 1]), case
            self.raised += 1


_reader = openai.OpenAI(base_url="http://nowhere", api_key="none")


def read_by_openai(body: bytes) -> tuple[str, openai.APIError | None]:
    """Parse a stream with the openai package. Return its text and the exception raised."""
    response = httpx.Response(200, content=body, request=httpx.Request("POST", "http://nowhere"))
    contents = []
    try:
        for chunk in openai.Stream(cast_to=ChatCompletionChunk, response=response, client=_reader):
            contents += [choice.delta.content or "" for choice in chunk.choices]
    except openai.APIError as error:
        return "".join(contents), error
    return "".join(contents), None


async def cut(gate: Gate, cases: Iterable[tuple[str, int]], outcomes: Outcomes) -> None:
    """Make a call for each case, several at a time, and check the answers."""
    remaining = iter(cases)

    async def call_repeatedly() -> None:
        async with await FaultClient.connect(gate.port) as client:
            for ending, offset in remaining:
                await client.post(chat(stream=True, user=f"{ending}:{offset}"))
                outcomes.check(ending, offset, await client.answer())

    await asyncio.gather(*(call_repeatedly() for _ in range(CONCURRENT_CALLS)))


@pytest.fixture
async def gate(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> Gate:
    """Return a gateway with one target that cuts streams on request and one that answers."""
    up.on(CHAT_PATH, cut_as_requested)
    gate = await serve((up, "mock"), (other, "mock"), first={"cooldown": {"failures": 1000, "rate": "100%"}}, top={"retry_budget": 1})
    await cut(gate, [("fin", len(WIRE))] * WARM_UP_CALLS, Outcomes())  # earns the retry budget for the fallbacks
    return gate


async def test_u11_a_cut_stream_falls_back_or_ends_with_an_error(gate: Gate) -> None:
    edges = {offset + shift for offset in (0, len(SSE), CONTENT_BEGUN, FINISHED, len(WIRE) - 1) for shift in (-1, 0, 1)}
    cuts = sorted(offset for offset in {*range(0, len(WIRE), 151), *edges} if 0 <= offset <= len(WIRE))
    outcomes = Outcomes()
    await cut(gate, [(ending, offset) for offset in cuts for ending in ENDINGS], outcomes)
    assert outcomes.fallbacks + outcomes.raised + outcomes.complete == 2 * len(cuts)
    assert outcomes.raised > len(cuts)
    records = (await gate.records(2 * len(cuts) + WARM_UP_CALLS))[WARM_UP_CALLS:]
    assert all(record["status"] == 200 for record in records)
    assert sum(record["stream_end"] == "ok" for record in records) == outcomes.fallbacks + outcomes.complete


@pytest.mark.prove
@pytest.mark.timeout(600)
async def test_g13_a_stream_cut_at_any_byte_falls_back_or_ends_with_an_error(gate: Gate, figure: Figure) -> None:
    outcomes = Outcomes()
    for start in range(0, len(WIRE), 200):  # a complete answer per batch prevents a cooldown of the target
        part = range(start, min(start + 200, len(WIRE)))
        await cut(gate, [(ending, offset) for offset in part for ending in ENDINGS], outcomes)
        await cut(gate, [("fin", len(WIRE))], Outcomes())
    figure("cuts followed by a fallback", outcomes.fallbacks, f"of {2 * CONTENT_BEGUN} before the first content")
    figure("cuts that raised in the openai package", outcomes.raised, "")
    figure("cuts after the finish reason, complete", outcomes.complete, "")
    assert outcomes.fallbacks == 2 * CONTENT_BEGUN
    assert outcomes.raised + outcomes.complete == 2 * (len(WIRE) - CONTENT_BEGUN)
    assert outcomes.complete <= 2 * (len(WIRE) - FINISHED)


@pytest.mark.prove
async def test_g13_the_openai_client_raises_only_after_the_first_content(gate: Gate, figure: Figure) -> None:
    cases = [(ending, offset) for offset in range(0, FINISHED, max(1, FINISHED // 200)) for ending in ENDINGS]
    raised = 0
    async with gate.openai_client() as client:
        for ending, offset in cases:
            contents: list[str] = []
            try:
                stream = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "hi"}], stream=True, user=f"{ending}:{offset}"
                )
                async for chunk in stream:
                    contents += [choice.delta.content or "" for choice in chunk.choices]
            except openai.APIError:
                assert offset >= CONTENT_BEGUN, (ending, offset)
                raised += 1
            else:
                assert offset < CONTENT_BEGUN, (ending, offset)
                assert "".join(contents) == "w0 w1 w2 w3 w4 ", (ending, offset)
    figure(f"of {len(cases)} cuts, raised by the openai client", raised, "")
    assert raised == sum(offset >= CONTENT_BEGUN for _, offset in cases)
