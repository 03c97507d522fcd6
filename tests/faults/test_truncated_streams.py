"""A stream of 40 events cut after any of its bytes, in good order or by a reset: somebody else answers, or the caller is told."""

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
from tests.faults.client import Answer, FaultClient, chat
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FIN, RST, Exchange, FaultUpstream, play
from tests.running import Figure

WORDS = [f"w{at} " for at in range(37)]
EVENTS = [chat_chunk("", role="assistant"), *map(chat_chunk, WORDS), chat_chunk(finish="stop")]
PIECES = [b"data: " + data + b"\n\n" for data in (*(json.dumps(event).encode() for event in EVENTS), b"[DONE]")]
WIRE = SSE + b"".join(map(chunked, PIECES)) + b"0\r\n\r\n"
"""Everything that the upstream sends, head and chunk framing included."""


def _ends() -> list[int]:
    """Where each event is complete on the wire."""
    ends, at = [], len(SSE)
    for piece in PIECES:
        at += len(chunked(piece))
        ends.append(at - len(b"\r\n"))
    return ends


ENDS = _ends()
BEGUN, FINISHED = ENDS[1], ENDS[-2]
"""From here on something was said; from here on everything was."""
ENDINGS = {"fin": FIN, "rst": RST}
AT_ONCE = 24
WHOLE_FIRST = 60


async def cut_as_asked(exchange: Exchange) -> None:
    """Send as much as the request's `user` says, and end as it says: `rst:123`."""
    how, _, at = exchange.request.json["user"].partition(":")
    sent = WIRE[: int(at)]
    await play(*((sent,) if sent else ()), ENDINGS[how])(exchange)


@dataclass
class Outcomes:
    """How many cuts ended how."""

    elsewhere: int = 0
    raised: int = 0
    whole: int = 0
    seen: dict[bytes, tuple[str, openai.APIError | None]] = field(default_factory=dict)

    def read(self, body: bytes) -> tuple[str, openai.APIError | None]:
        """The text that the openai package reads from these bytes, and what it raises; the same bytes are read once."""
        if body not in self.seen:
            self.seen[body] = read_by_openai(body)
        return self.seen[body]

    def judge(self, how: str, at: int, answer: Answer) -> None:
        """What must hold for a cut after byte `at`."""
        case = (how, at)
        assert answer.status == 200, case
        text, error = self.read(answer.body)
        if answer.header("x-gateway-target") == "p1/mock":
            assert (at < BEGUN, text, error) == (True, "w0 w1 w2 w3 w4 ", None), case
            self.elsewhere += 1
        elif error is None:
            assert at >= FINISHED, case
            assert (text, answer.events[-1]) == ("".join(WORDS), b"[DONE]"), case
            self.whole += 1
        else:
            assert at >= BEGUN, case
            assert at < FINISHED or how == "rst", case
            assert error.code == ("upstream_truncated" if how == "fin" else "upstream_reset"), case
            complete = sum(end <= at for end in ENDS[:-2])
            assert text == "".join(WORDS[: complete - 1]), case
            self.raised += 1


_reader = openai.OpenAI(base_url="http://nowhere", api_key="none")


def read_by_openai(body: bytes) -> tuple[str, openai.APIError | None]:
    """By the package's own stream reader."""
    response = httpx.Response(200, content=body, request=httpx.Request("POST", "http://nowhere"))
    said = []
    try:
        for chunk in openai.Stream(cast_to=ChatCompletionChunk, response=response, client=_reader):
            said += [choice.delta.content or "" for choice in chunk.choices]
    except openai.APIError as error:
        return "".join(said), error
    return "".join(said), None


async def cut(gate: Gate, cases: Iterable[tuple[str, int]], outcomes: Outcomes) -> None:
    """Every case, a few side by side, each reader on a connection of its own."""
    left = iter(cases)

    async def read_on() -> None:
        async with await FaultClient.connect(gate.port) as client:
            for how, at in left:
                await client.post(chat(stream=True, user=f"{how}:{at}"))
                outcomes.judge(how, at, await client.answer())

    await asyncio.gather(*(read_on() for _ in range(AT_ONCE)))


@pytest.fixture
async def gate(serve: Serve, up: FaultUpstream, other: FaultUpstream) -> Gate:
    """A gateway whose first target cuts as it is asked, and whose second answers."""
    up.on("/v1/chat/completions", cut_as_asked)
    gate = await serve((up, "mock"), (other, "mock"), first={"cooldown": {"failures": 1000, "rate": "100%"}}, top={"retry_budget": 1})
    await cut(gate, [("fin", len(WIRE))] * WHOLE_FIRST, Outcomes())  # earns the budget for the fallbacks to come
    return gate


async def test_u11_a_cut_stream_falls_back_or_ends_with_an_error(gate: Gate) -> None:
    edges = {at + beside for at in (0, len(SSE), BEGUN, FINISHED, len(WIRE) - 1) for beside in (-1, 0, 1)}
    cuts = sorted(at for at in {*range(0, len(WIRE), 151), *edges} if 0 <= at <= len(WIRE))
    outcomes = Outcomes()
    await cut(gate, [(how, at) for at in cuts for how in ENDINGS], outcomes)
    assert outcomes.elsewhere + outcomes.raised + outcomes.whole == 2 * len(cuts)
    assert outcomes.raised > len(cuts)
    records = (await gate.records(2 * len(cuts) + WHOLE_FIRST))[WHOLE_FIRST:]
    assert all(record["status"] == 200 for record in records)
    assert sum(record["stream_end"] == "ok" for record in records) == outcomes.elsewhere + outcomes.whole


@pytest.mark.prove
@pytest.mark.timeout(600)
async def test_g13_a_stream_cut_at_any_byte_falls_back_or_ends_with_an_error(gate: Gate, figure: Figure) -> None:
    outcomes = Outcomes()
    for start in range(0, len(WIRE), 200):  # a whole answer now and then: a target that only fails would be left alone
        part = range(start, min(start + 200, len(WIRE)))
        await cut(gate, [(how, at) for at in part for how in ENDINGS], outcomes)
        await cut(gate, [("fin", len(WIRE))], Outcomes())
    figure("cuts answered by the next target", outcomes.elsewhere, f"of {2 * BEGUN} before the first content")
    figure("cuts that the openai package raised", outcomes.raised, "")
    figure("cuts after the finish reason, answered whole", outcomes.whole, "")
    assert outcomes.elsewhere == 2 * BEGUN
    assert outcomes.raised + outcomes.whole == 2 * (len(WIRE) - BEGUN)
    assert outcomes.whole <= 2 * (len(WIRE) - FINISHED)


@pytest.mark.prove
async def test_g13_the_openai_client_raises_only_after_the_first_content(gate: Gate, figure: Figure) -> None:
    cases = [(how, at) for at in range(0, FINISHED, max(1, FINISHED // 200)) for how in ENDINGS]
    raised = 0
    async with openai.AsyncOpenAI(base_url=gate.base_url, api_key="none", max_retries=0) as client:
        for how, at in cases:
            said: list[str] = []
            try:
                stream = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "hi"}], stream=True, user=f"{how}:{at}"
                )
                async for chunk in stream:
                    said += [choice.delta.content or "" for choice in chunk.choices]
            except openai.APIError:
                assert at >= BEGUN, (how, at)
                raised += 1
            else:
                assert at < BEGUN, (how, at)
                assert "".join(said) == "w0 w1 w2 w3 w4 ", (how, at)
    figure(f"of {len(cases)} cuts raised by the openai client", raised, "")
    assert raised == sum(at >= BEGUN for _, at in cases)
