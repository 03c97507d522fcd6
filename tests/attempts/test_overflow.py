"""Targets that are skipped after an upstream refused a prompt as too long."""

from __future__ import annotations

import pytest

from gateway.attempts.overflow import is_too_small, known_window, note_overflow
from gateway.targets.candidate import Candidate
from tests.support.attempts import call_with, candidate, progress_of

LARGE, SMALL, UNKNOWN = candidate("a/gpt-4o"), candidate("b/gpt-4"), candidate("c/no-such-model")


def test_windows_come_from_the_settings_or_the_catalog() -> None:
    assert known_window(SMALL) == 8192
    assert known_window(LARGE) == 128_000
    assert known_window(UNKNOWN) is None


@pytest.mark.parametrize(
    ("exceeded", "passed_over"),
    [((LARGE,), [SMALL]), ((SMALL,), []), ((UNKNOWN,), []), ((SMALL, LARGE), [SMALL]), ((LARGE, SMALL), [SMALL])],
    ids=["large", "small", "unknown", "small-large", "large-small"],
)
async def test_only_windows_known_to_be_smaller_are_passed_over(exceeded: tuple[Candidate, ...], passed_over: list[Candidate]) -> None:
    progress = progress_of(call_with())
    for each in exceeded:
        note_overflow(progress, each)
    assert [each for each in (LARGE, SMALL, UNKNOWN) if is_too_small(progress, each)] == passed_over
    assert [each.target for each in progress.call.skipped] == [each.backend.target.name for each in passed_over]
