"""The prompt of a call whose usage is not reported: the time of the count, and the count that is billed."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

from gateway import accounting
from gateway.call import Attempt, Call, PassedRequest
from gateway.dialects.table import LOGITS
from gateway.store.limit import Costs, Reservation
from gateway.tokens.counter import MAX_INLINE_BYTES
from gateway.tokens.estimate import TYPICAL_BYTES_PER_TOKEN
from gateway.tokens.truncation import ContextReport
from providers.base import Target, Usage
from tests.support.attempts import call_with, target_named
from tests.support.each import each

COUNT = 5000 // TYPICAL_BYTES_PER_TOKEN
"""The estimate of the prompt by its size."""


def attempt(usage: Usage | None, **fields: Any) -> Attempt:
    """Return an attempt with the usage of the caller's answer."""
    return Attempt(target_named(), usage=usage, **fields)


class Counts:
    """The counts of a prompt that is long, or that has been counted."""

    def __init__(self, *, is_long: bool = True) -> None:
        self.is_long = is_long
        self.counted: list[Target] = []

    def takes_long(self, target: Target) -> bool:
        return self.is_long

    def typical(self, target: Target, bytes_per_token: int) -> int:
        return 5000 // bytes_per_token

    async def count(self, targets: tuple[Target, ...]) -> None:
        self.counted += targets


def long_call(final: Attempt | None, *, size: int = MAX_INLINE_BYTES + 1, is_long: bool = True, **fields: Any) -> Call:
    """Return a call with a long prompt that `final` answered."""
    call = call_with(**{"answered_by": final, "attempts": [] if final is None else [final], "status": 200, **fields})
    call.body_bytes, call.counts = size, Counts(is_long=is_long)  # type: ignore[assignment]
    return call


REPORT = ContextReport("exact", "o200k", 77, 1000, (), 1, 1)
RELAYS: list[Any] = [SimpleNamespace(usage=Usage(7, 3), chunks=0, finished=False), SimpleNamespace(usage=None, chunks=0, finished=False)]


@each(
    ("call", "needs"),
    [
        (long_call(attempt(None)), True),
        (long_call(attempt(Usage(0, 3))), True),
        (long_call(attempt(Usage(7, 3))), False),
        (long_call(attempt(Usage(7, 3), relays=RELAYS[:1])), False),
        (long_call(attempt(Usage(7, 3), relays=RELAYS)), True),
        (long_call(attempt(None), size=MAX_INLINE_BYTES), True),
        (long_call(attempt(Usage(0, 3)), size=MAX_INLINE_BYTES), False),
        (long_call(attempt(None), is_long=False), False),
        (long_call(attempt(None, context=REPORT)), False),
        (long_call(attempt(None), status=500), False),
        (long_call(attempt(None), passed=PassedRequest("POST", "/x")), False),
        (long_call(None), False),
    ],
)
def test_a_long_prompt_is_counted_only_if_its_usage_is_missing(call: Call, needs: bool) -> None:
    assert accounting.needs_count(call) is needs
    with contextlib.suppress(StopIteration):
        accounting.count_missing(call).send(None)
    assert isinstance(call.counts, Counts)
    assert call.counts.counted == ([call.answered_by.target] if needs and call.answered_by is not None else [])


def test_a_call_without_a_body_needs_no_count() -> None:
    call = long_call(attempt(None))
    call.body = None
    assert not accounting.needs_count(call)


@each(
    ("fields", "tokens"),
    [
        ({}, COUNT),
        ({"body": None}, 0),
        ({"reservation": Reservation("r", (), Costs(1, 3), (), (), 0)}, 3),
        ({"reservation": Reservation("r", (), Costs(1, 1), (), (), 0)}, 1),
        ({"reservation": Reservation("r", (), Costs(1, 0), (), (), 0)}, COUNT),
        ({"reservation": Reservation("r", (), Costs(1, 10**6), (), (), 0)}, COUNT),
        (
            {"reservation": Reservation("r", (), Costs(1, 3), (), (), 0), "passed": PassedRequest("POST", "/x")},
            COUNT,
        ),
    ],
)
def test_the_tokens_of_a_prompt_are_at_most_those_reserved(fields: dict[str, Any], tokens: int) -> None:
    call = long_call(attempt(None))
    for name, value in fields.items():
        setattr(call, name, value)
    assert accounting.prompt_tokens(call, call.attempts[0]) == tokens


def test_the_count_for_the_context_window_comes_first() -> None:
    fitted = attempt(None, context=REPORT)
    assert accounting.prompt_tokens(long_call(fitted), fitted) == 77


@each(
    ("operation", "usage", "settled"),
    [
        ("embeddings", Usage(7, 0), Usage(7, 0)),
        ("embeddings", Usage(0, 0, unsplit_tokens=9), Usage(9, 0, estimated=True)),
        ("embeddings", Usage(0, 0), Usage(COUNT, 0, estimated=True)),
        ("rerank", Usage(0, 3), Usage(COUNT, 0, estimated=True)),
        ("completions", Usage(7, 0), Usage(7, 20, estimated=True)),
        ("completions", Usage(0, 3), Usage(COUNT, 3, estimated=True)),
        ("completions", Usage(7, 3), Usage(7, 3)),
        ("logits", Usage(0, 0), Usage(0, 0)),
        ("logits", None, Usage(COUNT, 20, estimated=True)),
    ],
)
def test_missing_counts_depend_on_the_operation(operation: Any, usage: Usage | None, settled: Usage) -> None:
    final = attempt(usage, chunks=20)
    call = long_call(final)
    call.operation, call.dialect = operation, LOGITS
    accounting.settle(call)
    assert final.usage == settled
