"""The usage of failed answers and events, in the format of any API."""

from __future__ import annotations

import json
from typing import Any

from providers.any_usage import usage_of_failure
from providers.base import Usage
from tests.support.each import each

CHAT = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
TYPED = {"input_tokens": 10, "output_tokens": 5}


@each(
    ("failed", "usage"),
    [
        ({"error": {"message": "x"}, "usage": CHAT}, Usage(10, 5)),
        ({"error": {"message": "x"}, "usage": {**CHAT, "cost": 0.5}}, Usage(10, 5, reported_cost=5 * 10**8)),
        ({"usage": {"total_tokens": 15}}, Usage(15, 0, estimated=True)),
        ({"usage": {**TYPED, "cache_read_input_tokens": 4}}, Usage(14, 5, 4)),
        ({"type": "response.failed", "response": {"usage": {**TYPED, "total_tokens": 15}}}, Usage(10, 5)),
        ({"usage": {"tokens": TYPED, "billed_units": {"input_tokens": 9, "output_tokens": 5}}}, Usage(10, 5, billed=(9, 5))),
        ({"type": "message-end", "delta": {"finish_reason": "ERROR", "usage": {"tokens": TYPED}}}, Usage(10, 5)),
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}, None),
        ({"usage": None}, None),
        ({"usage": [1]}, None),
        ({"error": "x", "response": {"usage": None}, "delta": []}, None),
    ],
)
def test_a_failure_shows_the_usage_that_it_reports(failed: dict[str, Any], usage: Usage | None) -> None:
    assert usage_of_failure(json.dumps(failed).encode()) == usage


@each("data", [b"", b"[]", b"null", b"{", b'{"usage":', b'"usage"', b"[" * 100_000, b'{"usage":"\xff"}'])
def test_other_data_has_no_usage(data: bytes) -> None:
    assert usage_of_failure(data) is None
