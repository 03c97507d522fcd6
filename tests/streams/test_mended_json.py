"""Half characters are joined or replaced, and numbers that JSON does not have become ones that clients can read."""

from __future__ import annotations

import json
from itertools import pairwise
from random import Random
from typing import Any

from gateway.streams.mended_json import MAX_HELD_EVENTS, EventMender, mended, whole
from tests.support.each import each

HIGH, LOW = "\ud83d", "\ude00"
TOKEN = {"token": "a", "logprob": float("-inf"), "top_logprobs": [{"token": "b", "logprob": float("nan")}]}
SAID = {"token": "a", "logprob": -9999.0, "top_logprobs": [{"token": "b", "logprob": -9999.0}]}


@each(
    ("given", "expected"),
    [
        ({"a": HIGH}, {"a": "\ufffd"}),
        ({"a": f"x{LOW}y{HIGH}"}, {"a": "x\ufffdy\ufffd"}),
        ({"a": [{"b": LOW + HIGH}], "c": 1}, {"a": [{"b": "\ufffd\ufffd"}], "c": 1}),
        ({"logprobs": {"content": [TOKEN]}}, {"logprobs": {"content": [SAID]}}),
        ({"token_logprobs": [None, float("-inf")]}, {"token_logprobs": [None, -9999.0]}),
        ({"top_logprobs": [{"a": float("inf")}]}, {"top_logprobs": [{"a": -9999.0}]}),
        ({"avgLogprobs": float("nan")}, {"avgLogprobs": -9999.0}),
        ({"score": float("inf"), "logprobs": None}, {"score": None, "logprobs": None}),
        ({"embedding": [float("nan"), 0.5]}, {"embedding": [None, 0.5]}),
    ],
)
def test_values_that_json_does_not_have_are_replaced(given: dict[str, Any], expected: dict[str, Any]) -> None:
    data = mended(json.dumps(given).encode())
    assert data is not None
    assert json.loads(data, parse_constant=str) == expected


@each("data", [b'{"a":"\\ud83d\\ude00"}', b'{"a":"NaN \\\\ud83d"}', b'"\\ud83d"', b"{nope", b"", b"\xff", b"[" * 5000, b'{"a":1}'])
def test_what_needs_no_repair_or_cannot_be_read_is_not_mended(data: bytes) -> None:
    assert mended(data) is None


def test_number_that_is_too_large_is_not_finite() -> None:
    assert mended(b'{"logprob":-1e999,"x":1e999}') == b'{"logprob":-9999.0,"x":null}'


def said(text: str, index: int = 0, **more: Any) -> tuple[str, bytes]:
    """Return an event that escapes its text, as Python servers do."""
    return "", json.dumps({"choices": [{"index": index, "delta": {"content": text}}], **more}).encode()


def joined(events: list[tuple[str, bytes]]) -> tuple[dict[int, str], int]:
    """Feed events. Return the text of each choice, and the highest number of events that were held."""
    mender, sent, most = EventMender(), [], 0
    for count, event in enumerate(events, 1):
        sent += mender.feed(*event)
        most = max(most, count - len(sent))
    sent += mender.flush()
    assert len(sent) == len(events)
    texts: dict[int, str] = {}
    for _, data in sent:
        data.decode()
        for choice in json.loads(data)["choices"]:
            choice["delta"]["content"].encode()
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["delta"]["content"]
    return texts, most


def test_halves_in_two_events_are_one_character() -> None:
    assert joined([said("a" + HIGH), said(LOW + "b")]) == ({0: "a\U0001f600b"}, 1)


def test_halves_of_interleaved_choices_are_joined_within_their_choice() -> None:
    events = [said("a" + HIGH, 0), said("b" + HIGH, 1), said(LOW, 0), said("\udc4d", 1)]
    assert joined(events)[0] == {0: "a\U0001f600", 1: "b\U0001f44d"}


def test_half_without_a_partner_is_replaced_when_the_text_continues() -> None:
    assert joined([said("a" + HIGH), said(""), said("b"), said(LOW)]) == ({0: "a\ufffdb\ufffd"}, 2)


def test_half_waits_for_a_bounded_number_of_events() -> None:
    assert joined([said(HIGH), *[said("x", 1)] * 50, said(LOW)]) == ({0: "\ufffd\ufffd", 1: "x" * 50}, MAX_HELD_EVENTS)


def test_error_does_not_wait() -> None:
    mender = EventMender()
    assert mender.feed(*said("a" + HIGH)) == []
    assert [json.loads(data) for _, data in mender.feed("", b'{"error":{"message":"m"}}')][1] == {"error": {"message": "m"}}
    assert not mender.waits
    assert mender.feed(*said("a" + HIGH)) == []
    assert mender.feed("", b"{nope")[1] == ("", b"{nope")
    assert mender.feed("x", b'{"a":1}') == [("x", b'{"a":1}')]


def test_token_of_log_probabilities_is_not_joined() -> None:
    mender = EventMender()
    events = [json.dumps({"choices": [{"logprobs": {"content": [{"token": half}]}}]}).encode() for half in (HIGH, LOW)]
    sent = [json.loads(data) for event in events for _, data in mender.feed("", event)]
    assert [each["choices"][0]["logprobs"]["content"][0]["token"] for each in sent] == ["\ufffd", "\ufffd"]


def test_any_text_cut_anywhere_is_the_same_text() -> None:
    random = Random(7)
    alphabet = ["a", '"', "\\", "é", HIGH, LOW, "\U0001f600", "\U0001f3d4", "\u2028", "\n"]
    for _ in range(1000):
        units = "".join(random.choices(alphabet, k=random.randint(0, 12))).encode("utf-16-le", "surrogatepass")
        cuts = sorted({0, len(units), *(2 * random.randint(0, len(units) // 2) for _ in range(random.randint(0, 6)))})
        pieces = [units[a:b].decode("utf-16-le", "surrogatepass") for a, b in pairwise(cuts)]
        text = whole(units.decode("utf-16-le", "surrogatepass"))
        assert joined([said(piece) for piece in pieces])[0].get(0, "") == text
