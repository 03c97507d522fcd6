"""Function calls are counted, and only those."""

from __future__ import annotations

import sys

from tests.support.calls import calls_of


def test_python_and_c_functions_are_counted() -> None:
    assert calls_of(lambda: None) == 1
    assert calls_of(lambda: [len(word) for word in ("a", "b", "c")]) - calls_of(lambda: [len(word) for word in ("a",)]) == 2


def test_counting_ends() -> None:
    calls_of(lambda: None)
    assert sys.getprofile() is None
