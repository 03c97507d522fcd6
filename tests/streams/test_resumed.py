"""A transcript of the text that the caller has, and the chunks of the target that continues it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gateway.streams.chunk_filter import ChunkFilter
from gateway.streams.resumed import ResumedStream
from gateway.streams.transcript import Handover, Transcript
from tests.support.each import each


def event(delta: dict[str, object], finish: str | None = None, index: int = 0) -> bytes:
    """Return one event of the first stream."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "first", "created": 7, "model": "x", "choices": [choice]}).encode() + b"\n\n"


def transcript_of(*deltas: dict[str, object]) -> Transcript:
    """Return the transcript of these deltas."""
    transcript = Transcript()
    transcript.append(b"".join(event(delta) for delta in deltas))
    return transcript


def test_transcript_has_the_text_and_the_identity_of_the_first_chunk() -> None:
    transcript = transcript_of({"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"})
    assert (transcript.text, transcript.size, transcript.is_plain) == ("Hello", 5, True)
    assert transcript.identity == {"id": "first", "created": 7, "model": "x"}
    assert transcript.hand_over("b/y") == 5
    assert transcript.handovers == [Handover(5, "b/y")]


@each(
    "other",
    [event({"tool_calls": [{"id": "t"}]}), event({"content": "x"}, index=1), event({}, "stop"), b"data: none\n\n"],
    ids=["tool call", "second choice", "finished", "unreadable"],
)
def test_transcript_with_anything_but_text_is_not_plain(other: bytes) -> None:
    transcript = transcript_of({"content": "Hello"})
    transcript.append(other)
    assert not transcript.is_plain


def continued(transcript: Transcript, *deltas: dict[str, object]) -> list[dict[str, object]]:
    """Return the chunks of a stream that continues the transcript."""
    stream = ResumedStream(None, transcript)
    chunks = [{"id": "second", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    return [json.loads(out) for chunk in chunks for out in stream.feed("", json.dumps(chunk).encode())]


def test_continued_chunks_have_the_first_identity_and_no_second_role() -> None:
    chunks = continued(transcript_of({"content": "Hel"}), {"role": "assistant", "content": ""}, {"content": "lo"})
    assert [(chunk["id"], chunk["choices"][0]["delta"]) for chunk in chunks] == [("first", {"content": "lo"})]  # type: ignore[index]


def test_white_space_that_the_caller_has_is_not_repeated() -> None:
    chunks = continued(transcript_of({"content": "one  "}), {"content": " "}, {"content": " two "})
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["two "]  # type: ignore[index]


class Doubling(ChunkFilter):
    """Sends every chunk twice."""

    def _pass(self, data: bytes) -> Sequence[bytes]:
        return (data, data)


def test_filters_apply_in_order_from_the_inside() -> None:
    assert list(Doubling(Doubling(None)).feed("", b"x")) == [b"x"] * 4
    assert list(Doubling(None).end()) == []
