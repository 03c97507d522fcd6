"""Properties of stop strings: for any chunks, choices and characters, the text ends at the stop string that is complete first."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.emulate.stops import StopFilter, StopStream, cut_answer
from gateway.streams.relay import Relay
from providers.base import Failure
from providers.usage import read_usage
from tests.support.each import each

LETTERS = "ab\n€🦊"
TEXTS = st.text(LETTERS, max_size=24)
STOPS = st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=4)
CUTS = st.lists(st.integers(0, 24), max_size=8)


def pieces(text: str, cuts: list[int]) -> list[str]:
    """Return the text, cut at these places."""
    at = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(at)]


def by_hand(text: str, stops: list[str], *, keep: bool) -> tuple[str, str | None]:
    """Return the expected text, and the stop string that ends it or None, found one character at a time.

    The text contains the stop string only if `keep` is set.
    """
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return (text[:end] if keep else text[: end - len(longest)]), longest
    return text, None


@given(TEXTS, STOPS, CUTS, st.booleans())
def test_any_chunking_gives_the_same_text_and_stop(text: str, stops: list[str], cuts: list[int], keep: bool) -> None:
    filter = StopFilter(stops, keep=keep)
    said = "".join([filter.feed(piece) for piece in pieces(text, cuts)]) + filter.flush()
    assert (said, filter.matched_stop) == by_hand(text, stops, keep=keep)


@given(TEXTS, STOPS, CUTS)
def test_no_more_is_held_back_than_may_become_a_stop(text: str, stops: list[str], cuts: list[int]) -> None:
    filter = StopFilter(stops)
    fed, said = "", ""
    for piece in pieces(text, cuts):
        fed += piece
        said += filter.feed(piece)
        if filter.matched_stop is not None:
            return
        held = fed[len(said) :]
        assert held == max((stop[:size] for stop in stops for size in range(len(stop)) if fed.endswith(stop[:size])), key=len)


def chunk(index: int, content: str | None = None, finish: str | None = None) -> bytes:
    """Return one event of an upstream."""
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return json.dumps(whole, ensure_ascii=False).encode()  # so that pieces end inside characters, too


def interleaved(texts: list[str], cuts: list[int], order: list[int]) -> list[bytes]:
    """Return the events of several choices, mixed by `order`."""
    left = [[chunk(at, piece) for piece in pieces(text, cuts)] + [chunk(at, finish="length")] for at, text in enumerate(texts)]
    mixed = []
    for turn in order:
        queue = left[turn % len(left)]
        if queue:
            mixed.append(queue.pop(0))
    return mixed + [event for queue in left for event in queue]


def relayed(wire: bytes, size: int, stops: list[str], choices: int, *, keep: bool = False) -> tuple[bytes, StopStream]:
    """Return the answer that the caller gets if the upstream's bytes arrive `size` at a time."""
    stream = StopStream(None, stops, choices, keep=keep)
    relay = Relay(decoder=stream, usage_asked=False, read_usage=read_usage, fail=lambda data: Failure("inband_error", "no"))
    out = b""
    for at in range(0, len(wire), size):
        if relay.done:
            break
        out += relay.feed(wire[at : at + size])
    return out + relay.end(), stream


def said_by(out: bytes) -> tuple[dict[int, str], dict[int, str]]:
    """Return the text and the finish reason of every choice."""
    texts: dict[int, str] = {}
    ends: dict[int, str] = {}
    for event in out.decode().split("\n\n"):
        for choice in json.loads(event.removeprefix("data: "))["choices"] if event else ():
            at = choice["index"]
            assert at not in ends, "nothing follows a choice's end"
            texts[at] = texts.get(at, "") + (choice["delta"].get("content") or "")
            if choice["finish_reason"]:
                ends[at] = choice["finish_reason"]
    return texts, ends


@given(st.lists(TEXTS, min_size=1, max_size=3), STOPS, CUTS, st.lists(st.integers(0, 2), max_size=30), st.integers(1, 400))
def test_choices_of_a_stream_end_each_at_its_own_stop_whatever_the_bytes(
    texts: list[str], stops: list[str], cuts: list[int], order: list[int], size: int
) -> None:
    wire = b"".join(b"data: " + event + b"\n\n" for event in [*interleaved(texts, cuts, order), b"[DONE]"])
    out, stream = relayed(wire, size, stops, len(texts))
    expected = [by_hand(text, stops, keep=False) for text in texts]
    said, ends = said_by(out)
    assert {at: said.get(at, "") for at in range(len(texts))} == {at: text for at, (text, _) in enumerate(expected)}
    assert ends == {at: "length" if stop is None else "stop" for at, (_, stop) in enumerate(expected)}
    assert (stream.matched_stop is None) == all(stop is None for _, stop in expected)


@given(TEXTS, STOPS, CUTS, st.booleans(), st.integers(1, 64))
def test_a_stream_and_an_answer_say_the_same(text: str, stops: list[str], cuts: list[int], keep: bool, size: int) -> None:
    wire = b"".join(b"data: " + event + b"\n\n" for event in [*interleaved([text], cuts, []), b"[DONE]"])
    out, stream = relayed(wire, size, stops, 1, keep=keep)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
    answer, matched = cut_answer(json.dumps({"choices": [choice]}).encode(), stops, keep=keep)
    whole: dict[str, Any] = json.loads(answer)["choices"][0]
    said, ends = said_by(out)
    assert (said.get(0, ""), ends[0], stream.matched_stop) == (whole["message"]["content"], whole["finish_reason"], matched)


def test_an_answer_without_a_stop_keeps_its_very_bytes() -> None:
    answer = b'{"choices": [ {"message": {"content": "abc"}, "finish_reason": "stop"} ]}'
    assert cut_answer(answer, ["x"], keep=False) == (answer, None)


def test_a_stop_that_the_upstream_kept_as_asked_is_named_and_nothing_changed() -> None:
    answer = b'{"choices": [ {"message": {"content": "abEND"}, "finish_reason": "stop"} ]}'
    assert cut_answer(answer, ["END"], keep=True) == (answer, "END")


@each("name", ["stop_reason", "stop_sequence"])
@each(("said", "named"), [("END", "END"), ("other", None), (128009, None), (["END"], None), (None, None)])
def test_a_stop_that_the_upstream_left_out_and_named_is_the_one_that_matched(name: str, said: Any, named: str | None) -> None:
    choice = {"index": 0, "finish_reason": "stop", name: said}
    answer = json.dumps({"choices": [{**choice, "message": {"content": "ab"}}]}).encode()
    assert cut_answer(answer, ["x", "END"], keep=False) == (answer, named)
    stream = StopStream(None, ["x", "END"], 1, keep=False)
    stream.feed("", json.dumps({"choices": [{**choice, "delta": {"content": "ab"}}]}).encode())
    assert (stream.matched_stop, stream.reported_stop) == (None, named)


@pytest.mark.parametrize("content", [None, [], 3])
def test_answers_without_text_pass(content: Any) -> None:
    answer = json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "tool_calls"}]}).encode()
    assert cut_answer(answer, ["3"], keep=False) == (answer, None)


def test_log_probabilities_and_tool_calls_of_a_stream_pass() -> None:
    delta = {"tool_calls": [{"index": 0, "function": {"arguments": "END"}}]}
    event = json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}).encode()
    (out,) = StopStream(None, ["END"], 1, keep=False).feed("", event)
    assert json.loads(out)["choices"][0]["delta"] == delta


def test_calls_and_log_probabilities_after_a_stop_are_removed() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    listed = [{"token": token, "logprob": -0.1} for token in ("one", " two", " END", " more")]
    message = {"role": "assistant", "content": "one two END more", "tool_calls": [call]}
    whole = {"choices": [{"index": 0, "message": message, "logprobs": {"content": listed}, "finish_reason": "tool_calls"}]}
    answer, matched = cut_answer(json.dumps(whole).encode(), [" END"], keep=False)
    (choice,) = json.loads(answer)["choices"]
    assert matched == " END"
    assert (choice["message"], choice["finish_reason"]) == ({"role": "assistant", "content": "one two"}, "stop")
    assert [one["token"] for one in choice["logprobs"]["content"]] == ["one", " two"]
