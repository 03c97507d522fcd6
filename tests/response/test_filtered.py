"""Answers that a content filter withheld completely."""

from __future__ import annotations

import json
from typing import Any

from gateway.response.filtered import is_withheld
from tests.support.each import each


def choice(**message: Any) -> dict[str, Any]:
    """Return a choice with this message."""
    return {"index": 0, "message": {"role": "assistant", "content": None, **message}}


@each(
    ("body", "reasons", "withheld"),
    [
        ({"choices": [choice()]}, ("content_filter",), True),
        ({"choices": [choice(content="")]}, ("content_filter",), True),
        ({"choices": [choice(content="Half of")]}, ("content_filter",), False),
        ({"choices": [choice(tool_calls=[{"id": "1"}])]}, ("content_filter",), False),
        ({"choices": [choice(), choice(content="x")]}, ("content_filter", "stop"), False),
        ({"choices": [choice(), choice()]}, ("content_filter", "content_filter"), True),
        ({"choices": [choice()]}, ("stop",), False),
        ({"choices": [choice()]}, (), False),
        ({"choices": [{"text": "x"}]}, ("content_filter",), False),
        ({"content": []}, ("content_filter",), True),
        ({"content": [{"type": "text", "text": "x"}]}, ("content_filter",), False),
        ({"output": []}, ("content_filter",), True),
        ({"output": [{"type": "message"}]}, ("content_filter",), False),
    ],
)
def test_answer_is_withheld_if_it_has_no_content_because_of_a_filter(
    body: dict[str, Any], reasons: tuple[str, ...], withheld: bool
) -> None:
    assert is_withheld(json.dumps(body).encode(), reasons) is withheld
