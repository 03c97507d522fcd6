"""tests.support.search: a part of the cases, with the first and the last, or all."""

from __future__ import annotations

import pytest

from tests.support import search


@pytest.mark.parametrize(("full", "expected"), [(False, [0, 4, 8, 9]), (True, list(range(10)))])
def test_first_and_last_are_always_tried(monkeypatch: pytest.MonkeyPatch, full: bool, expected: list[int]) -> None:
    monkeypatch.setattr(search, "FULL", full)
    assert search.every(range(10), 4) == expected
    assert search.every([], 4) == []
    assert search.every([7], 4) == [7]
    assert [search.examples(number) for number in (100, 8)] == ([100, 8] if full else [25, 5])
