"""Chunks that report an error are recognized, wherever the error is in them."""

from __future__ import annotations

from typing import Any

import pytest

from providers.chunk_errors import drop_empty_errors, error_of, has_readable_choices

ERROR = {"code": 429, "message": "Rate limited"}


@pytest.mark.parametrize(
    ("chunk", "event", "expected"),
    [
        ({"error": ERROR}, "", {"error": ERROR}),
        ([{"error": ERROR}], "", {"error": ERROR}),
        ({"choices": [{"error": ERROR}]}, "", {"error": ERROR}),
        ({"object": "error", **ERROR}, "", {"object": "error", **ERROR}),
        (ERROR, "", {"error": ERROR}),
        ({"status_code": 503, "message": "busy"}, "", {"error": {"status_code": 503, "message": "busy"}}),
        ({"detail": "busy"}, "error", {"detail": "busy"}),
        ({"choices": [{}], "message": "hi"}, "", None),
        ({"message": "hi"}, "", None),
        ({"error": None, "choices": []}, "", None),
        ([], "", None),
        (5, "", None),
    ],
)
def test_error_of_a_chunk_is_found(chunk: Any, event: str, expected: Any) -> None:
    assert error_of(chunk, event) == expected


def test_empty_errors_are_removed() -> None:
    for empty in ({}, "", [], False, 0):
        chunk = {"id": "c", "error": empty, "choices": [{"index": 0, "error": empty}, None]}
        assert drop_empty_errors(chunk)
        assert chunk == {"id": "c", "choices": [{"index": 0}, None]}
    for kept in ({"error": None, "choices": None}, {"choices": [{"error": ERROR}]}, {}):
        before = dict(kept)
        assert not drop_empty_errors(kept)
        assert kept == before


def test_choices_must_be_objects() -> None:
    for chunk in ({}, {"choices": None}, {"choices": []}, {"choices": [{}, None]}, {"choices": {}}):
        assert has_readable_choices(chunk)
    for other in (None, [], 5, {"choices": [5]}, {"choices": "x"}):
        assert not has_readable_choices(other)
