"""The work for a conversation grows with its length, not with its square, so that no request occupies a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from providers.base import Body, Options
from providers.message_tables import ROWS
from providers.rules import conversation, tool_results
from providers.rules.conversation import Turn
from providers.rules.message_fields import Report
from providers.rules.rule import Work
from tests.support.each import each


class CountedId(str):
    """An id that counts its comparisons with other ids."""

    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        CountedId.comparisons += 1
        return str.__eq__(self, other)


def comparisons(step: Callable[[list[Turn], Report], object], count: int, *, same: bool) -> int:
    """Return the comparisons of ids for one message with this number of calls, whose results come in the opposite order."""
    names = ["x.y" if same else f"x.{number}" for number in range(count)]
    calls: list[Any] = [{"id": CountedId(name), "function": {"name": "f", "arguments": "{}"}} for name in names]
    results = [{"role": "tool", "tool_call_id": CountedId(name), "content": name} for name in reversed(names)]
    messages = [{"role": "user", "content": "A"}, {"role": "assistant", "tool_calls": calls}, *results]
    report = Report(Work(Body(b"{}"), "Anthropic", Options(), {}))
    CountedId.comparisons = 0
    step([Turn(index, message) for index, message in enumerate(messages)], report)
    return CountedId.comparisons


def valid_ids(turns: list[Turn], report: Report) -> object:
    """Replace the ids for Anthropic."""
    return conversation.valid_ids(turns, ROWS["anthropic"], report)


def check_results(turns: list[Turn], report: Report) -> None:
    """Check that each call has a result."""
    tool_results.check_results(turns, report.work)


STEPS: list[Callable[[list[Turn], Report], object]] = [
    tool_results.one_for_each_call, tool_results.results_first, check_results, valid_ids,
]  # fmt: skip


@each("step", STEPS)
@each("same", [False, True])
def test_ids_are_compared_in_proportion_to_the_calls(step: Callable[[list[Turn], Report], object], same: bool) -> None:
    few, many = (comparisons(step, count, same=same) for count in (200, 400))
    assert many <= 3 * max(few, 400)
