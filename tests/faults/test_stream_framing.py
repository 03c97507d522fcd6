"""The caller gets the same bytes for every framing and every chunk boundary of the upstream."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.streams.relay import DONE, Relay
from providers.base import Failure, StreamFailure
from providers.usage import read_usage
from tests.faults.behaviours import SSE, chat_chunk, chunked
from tests.faults.client import CHAT_PATH, chat
from tests.faults.conftest import Serve
from tests.faults.upstream_server import Exchange, FaultUpstream, play
from tests.running import Figure
from tests.support.search import examples

HARD = 'a\u2028b\u2029c\x85d é 日本 👩‍👩‍👧 \U0001f600 \\ " / \t end'
"""Characters of one to four bytes, with three that some line splitters treat as line ends."""


@dataclass
class OddEvent:
    """An event in an unusual form: its data in lines, the line ends, and the fields before it."""

    lines: list[bytes]
    end: bytes
    space: bytes
    before: list[bytes]

    @property
    def wire(self) -> bytes:
        """Return the bytes that the upstream sends."""
        fields = [*self.before, *(b"data:" + self.space + line for line in self.lines), b""]
        return b"".join(field + self.end for field in fields)

    @property
    def normal(self) -> bytes:
        """Return the bytes that the caller gets: one data line and a blank line, with LF."""
        return b"data: " + b"".join(self.lines) + b"\n\n"


@st.composite
def odd_streams(draw: st.DrawFn) -> list[OddEvent]:
    """Generate a stream: content, a finish reason and sometimes [DONE]."""
    texts = draw(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=6))
    values = [chat_chunk("", role="assistant"), *(chat_chunk(text) for text in texts), chat_chunk(finish="stop")]
    datas = [json.dumps(value, ensure_ascii=draw(st.booleans())).encode() for value in values]
    datas += [b"[DONE]"] if draw(st.booleans()) else []
    return [draw(odd_event(data)) for data in datas]


@st.composite
def odd_event(draw: st.DrawFn, data: bytes) -> OddEvent:
    """Generate an event in any form. Data is split where JSON may have white space."""
    lines = data.split(b', "choices', 1) if draw(st.booleans()) else [data]
    lines = [lines[0] + b",", b'"choices' + lines[1]] if len(lines) == 2 else lines
    before = draw(st.lists(st.sampled_from([b": comment", b":", b"event: x", b"id: 7", b"retry: 1", b"unknown"]), max_size=2))
    return OddEvent(lines, draw(st.sampled_from([b"\n", b"\r\n", b"\r"])), draw(st.sampled_from([b" ", b""])), before)


def relayed(pieces: list[bytes]) -> bytes:
    """Return the bytes that a caller gets for a stream that arrives in these pieces."""
    relay = Relay(decoder=None, usage_asked=False, read_usage=read_usage, fail=lambda data: Failure("inband_error", "unexpected"))
    out = b""
    for piece in pieces:
        if not relay.done:
            out += relay.feed(piece)
    return out + relay.end() + DONE


def relayed_form(stream: list[OddEvent]) -> bytes:
    """Return the bytes that a caller must get for a stream."""
    return b"".join(event.normal for event in stream if event.lines != [b"[DONE]"]) + DONE


def split_at(wire: bytes, offsets: list[int]) -> list[bytes]:
    """Split `wire` at these offsets."""
    ends = sorted({offset % (len(wire) + 1) for offset in offsets})
    return [wire[start:end] for start, end in zip([0, *ends], [*ends, len(wire)], strict=True) if start < end]


@pytest.mark.parametrize("examples", [40, pytest.param(400, marks=pytest.mark.prove)])
def test_u16_framing_and_chunk_boundaries_do_not_change_the_stream(examples: int) -> None:
    @settings(max_examples=examples)
    @given(stream=odd_streams(), offsets=st.lists(st.integers(0, 5000), max_size=40), bom=st.booleans(), complete=st.booleans())
    def check(stream: list[OddEvent], offsets: list[int], bom: bool, complete: bool) -> None:
        wire = (b"\xef\xbb\xbf" if bom else b"") + b"".join(event.wire for event in stream)
        if not complete:  # the last event lacks its blank line
            wire = wire[: -len(stream[-1].end)]
        assert relayed(split_at(wire, offsets)) == relayed_form(stream)

    check()


@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=pytest.mark.prove)])
def test_u16_a_stream_that_arrives_byte_by_byte_is_unchanged(examples: int) -> None:
    @settings(max_examples=examples)
    @given(stream=odd_streams())
    def check(stream: list[OddEvent]) -> None:
        wire = b"".join(event.wire for event in stream)
        assert relayed([bytes((byte,)) for byte in wire]) == relayed_form(stream)

    check()


@settings(max_examples=examples(200))
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=30), offsets=st.lists(st.integers(0, 20000), max_size=60))
def test_u16_a_plain_stream_passes_byte_for_byte(texts: list[str], offsets: list[int]) -> None:
    values = [chat_chunk("", role="assistant"), *(chat_chunk(text) for text in texts), chat_chunk(finish="stop")]
    wire = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values) + DONE
    assert relayed(split_at(wire, offsets)) == wire


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_u16_no_single_chunk_boundary_changes_the_stream(end: bytes) -> None:
    stream = [OddEvent([data], end, b" ", [b": c"]) for data in _hard_stream()]
    wire = b"\xef\xbb\xbf" + b"".join(event.wire for event in stream)
    expected = b"".join(event.normal for event in stream)
    for offset in range(len(wire) + 1):
        assert relayed([wire[:offset], wire[offset:]]) == expected, offset


def _hard_stream() -> list[bytes]:
    """Return events whose text has every kind of character, unescaped."""
    values = [chat_chunk("", role="assistant"), chat_chunk(HARD), chat_chunk(HARD[::-1]), chat_chunk(finish="stop")]
    return [*(json.dumps(value, ensure_ascii=False).encode() for value in values), b"[DONE]"]


MIXED = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n")
FORMS: dict[str, bytes] = {
    "lf": b"".join(b"data: " + data + b"\n\n" for data in _hard_stream()),
    "crlf": b"".join(b"data: " + data + b"\r\n\r\n" for data in _hard_stream()),
    "cr": b"".join(b"data: " + data + b"\r\r" for data in _hard_stream()),
    "mixed": b"".join(b"data: " + data + end for data, end in zip(_hard_stream(), MIXED, strict=True)),
    "bom": b"\xef\xbb\xbf" + b"".join(b"data: " + data + b"\n\n" for data in _hard_stream()),
    "comments": b": hi\n\n" + b"".join(b": c\ndata: " + data + b"\n: d\n\n:\n" for data in _hard_stream()),
    "no-space": b"".join(b"data:" + data + b"\n\n" for data in _hard_stream()),
    "lines": b"".join(b"data: " + data.replace(b', "choices', b',\ndata: "choices') + b"\n\n" for data in _hard_stream()),
    "unterminated": b"".join(b"data: " + data + b"\n\n" for data in _hard_stream())[:-2],
    "unterminated-crlf": b"".join(b"data: " + data + b"\r\n\r\n" for data in _hard_stream())[:-3],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_u16_an_unusually_framed_stream_reaches_the_caller_as_a_plain_one(serve: Serve, up: FaultUpstream, form: str) -> None:
    wire = FORMS[form]
    up.on(CHAT_PATH, play(SSE + chunked(wire), b"0\r\n\r\n"))
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=True))
    expected = FORMS["lf"].replace(b', "choices', b',"choices') if form == "lines" else FORMS["lf"]
    assert answer.body == expected
    await gate.record(status=200, stream_end="ok")
    assert gate.count("lockgate_upstream_errors") == 0
    assert gate.count("lockgate_sse_normalised") == 0


@pytest.mark.parametrize("form", ["lf", "mixed"])
async def test_u17_text_split_at_every_byte_arrives_unchanged(serve: Serve, up: FaultUpstream, form: str) -> None:
    async def byte_by_byte(exchange: Exchange) -> None:
        await exchange.start_stream()
        for byte in FORMS[form]:
            await exchange.chunk(bytes((byte,)))
            await exchange.sleep(0.0005)
        await exchange.chunk(b"")

    up.on(CHAT_PATH, byte_by_byte)
    gate = await serve((up, "mock"))
    answer = await gate.ask(chat(stream=True))
    assert answer.text == HARD + HARD[::-1]
    assert "\ufffd" not in answer.body.decode()
    assert answer.body == FORMS["lf"]
    await gate.record(status=200, stream_end="ok")


async def test_u17_a_json_answer_that_arrives_byte_by_byte_is_unchanged(serve: Serve, up: FaultUpstream) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": HARD}, "finish_reason": "stop"}
    frame = {"id": "c", "object": "chat.completion", "created": 1, "model": "mock"}
    body = json.dumps({**frame, "choices": [choice]}, ensure_ascii=False).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    up.on(CHAT_PATH, play(head, *[bytes((byte,)) for byte in body]))
    answer = await (await serve((up, "mock"))).ask(chat())
    assert answer.body == body


def _plain_stream() -> tuple[bytes, int, int]:
    """Return a stream, and the offsets at which its first content and its finish reason are complete."""
    values = [chat_chunk("", role="assistant"), *(chat_chunk(f"w{number} ") for number in range(6)), chat_chunk(finish="stop")]
    events = [b"data: " + json.dumps(value).encode() + b"\n\n" for value in values]
    return b"".join(events) + DONE, len(events[0] + events[1]), len(b"".join(events))


def test_u11_every_truncated_stream_is_an_error() -> None:
    wire, _, finished = _plain_stream()
    for length in range(len(wire) + 1):
        if length >= finished - 2:  # the finish reason is complete except for the blank line after it
            assert relayed([wire[:length]]) == wire
        else:
            with pytest.raises(StreamFailure) as caught:
                relayed([wire[:length]])
            assert caught.value.failure.kind in ("truncated", "closed_pre")


def random_stream(draw: random.Random) -> list[OddEvent]:
    """Return a random stream of events in unusual forms."""
    alphabet = 'ab \u2028\u2029\x85é日👩\\"'
    texts = ["".join(draw.choices(alphabet, k=draw.randint(1, 12))) for _ in range(draw.randint(1, 8))]
    values = [chat_chunk("", role="assistant"), *map(chat_chunk, texts), chat_chunk(finish="stop")]
    datas = [json.dumps(value, ensure_ascii=draw.random() < 0.5).encode() for value in values]
    stream = []
    for data in (*datas, b"[DONE]"):
        lines = data.split(b', "choices', 1) if draw.random() < 0.2 else [data]
        lines = [lines[0] + b",", b'"choices' + lines[1]] if len(lines) == 2 else lines
        before = draw.sample([b": comment", b":", b"event: x", b"id: 7", b"retry: 1", b"unknown"], draw.choice((0, 0, 0, 1, 2)))
        stream.append(OddEvent(lines, draw.choice((b"\n", b"\n", b"\r\n", b"\r")), draw.choice((b" ", b" ", b"")), before))
    return stream


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_g14_100_000_random_chunk_boundaries_do_not_change_1_000_streams(figure: Figure) -> None:
    draw = random.Random(14)
    events, seconds = 0, 0.0
    for _ in range(1000):
        stream = random_stream(draw)
        wire = b"".join(event.wire for event in stream)
        expected = b"".join(event.normal for event in stream)
        for _ in range(100):
            pieces = split_at(wire, [draw.randrange(len(wire) + 1) for _ in range(draw.randint(0, 60))])
            began = time.perf_counter()
            output = relayed(pieces)
            seconds += time.perf_counter() - began
            events += len(stream)
            assert output == expected, (wire, pieces)
    figure("events relayed in unusual forms and pieces", events / seconds, "a second")
    plain = b"".join(b"data: " + json.dumps(chat_chunk(f"w{at} ")).encode() + b"\n\n" for at in range(20_000))
    plain += b"data: " + json.dumps(chat_chunk(finish="stop")).encode() + b"\n\n" + DONE
    began = time.perf_counter()
    assert relayed([plain[at : at + 1400] for at in range(0, len(plain), 1400)]) == plain
    figure("plain events relayed in pieces of 1,400 bytes", 20_000 / (time.perf_counter() - began), "a second")
