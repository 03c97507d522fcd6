"""The number of cases that the searches try: a part of them in `make test`, all of them in `make prove`.

A search is a test with random or exhaustive cases. It has the marker `search`, which tests/conftest.py adds to tests of Hypothesis, and
`make prove` runs it with HYPOTHESIS_PROFILE=full.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "steady")
FULL = PROFILE != "steady"


def examples(full: int) -> int:
    """Return the number of random examples to try: `full`, or a quarter of them but at least five."""
    return full if FULL else max(5, full // 4)


def every(values: Iterable[T], step: int) -> list[T]:
    """Return all values, or the first, the last and each `step`th between them."""
    found = list(values)
    return found if FULL else [*found[:-1:step], *found[-1:]]
