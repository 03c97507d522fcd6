"""The usage that passed answers report."""

from __future__ import annotations

import json
from typing import Any

from gateway.passthrough.usage import MAX_ANSWER_BYTES, AnswerCopy, copy_for, usage_in
from providers.base import Usage
from tests.support.each import each

JSON = (b"content-type", b"application/json; charset=utf-8")


@each(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, Usage(3, 4)),
        ({"prompt_tokens": 3, "total_tokens": 3}, Usage(3, 0)),
        ({"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}, Usage(3, 4)),
        ({"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 5}}, Usage(9, 4, 5)),
        (
            {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 2},
            Usage(15, 4, 10, cache_write_tokens=2),
        ),
        ({"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}, Usage(14, 45)),
        ({"type": "duration", "seconds": 12}, None),
        ({"input_tokens": -1, "output_tokens": 4}, None),
        ({"input_tokens": "3", "output_tokens": 4, "cache_read_input_tokens": "2"}, Usage(5, 4, 2)),
        ({"input_tokens": "x", "output_tokens": 4}, None),
        ({"total_tokens": 9}, Usage(9, 0, estimated=True)),
        ({}, None),
        (None, None),
        ([3], None),
    ],
)
def test_usage_is_read_in_the_forms_of_openai_and_anthropic(usage: Any, expected: Usage | None) -> None:
    found = usage_in(json.dumps({"usage": usage, "model": "m"}).encode())
    assert (None if found is None else found.usage) == expected
    assert found is None or found.model == "m"


@each("answer", [b"", b"[]", b"{", b"\xff", b'{"usage":{"prompt_tokens":1,"completion_tokens":1},"object":"batch"}', b"[" * 100_000])
def test_an_answer_without_usage_of_its_own_call_reports_none(answer: bytes) -> None:
    assert usage_in(answer) is None


@each(
    ("method", "status", "headers"),
    [
        ("GET", 200, [JSON]),
        ("POST", 400, [JSON]),
        ("POST", 200, [(b"content-type", b"audio/mpeg")]),
        ("POST", 200, [JSON, (b"content-encoding", b"gzip")]),
        ("POST", 200, [JSON, (b"content-length", b"%d" % (MAX_ANSWER_BYTES + 1))]),
        ("POST", 200, []),
    ],
)
def test_other_answers_are_not_copied(method: str, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    assert copy_for(method, status, headers) is None


def test_a_copy_is_given_up_when_it_becomes_too_large() -> None:
    copy = copy_for("POST", 201, [JSON])
    assert isinstance(copy, AnswerCopy)
    copy.add(b'{"usage":{"input_tokens":1,"output_tokens":2},"x":"')
    copy.add(b'"}')
    reported = copy.reported()
    assert reported is not None
    assert reported.usage == Usage(1, 2)
    copy.add(b" " * MAX_ANSWER_BYTES)
    assert copy.reported() is None
    assert copy._pieces == []
