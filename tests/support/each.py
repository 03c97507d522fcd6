"""Many small cases in one test, because pytest spends more time on a test than such a case takes.

    @each("kind", KINDS)
    @each(("value", "sent"), [(1, 2), (3, 4)])
    def test_value_is_sent(kind: str, value: int, sent: int) -> None: ...

Every case runs. The test fails with the list of all cases that failed, and with the traceback of the first. The cases share the
fixtures of the test, so a test whose cases need their own uses `pytest.mark.parametrize`.

    LOCKGATE_EACH=apart python -m pytest ...    # makes each case a test of its own, with an id that -k can select
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

Test = Callable[..., None]
MAX_REASON_CHARS = 1000


class CasesFailedError(AssertionError):
    """The failures of one test, by the values of the case."""

    def __init__(self, failures: list[tuple[str, BaseException]], run: int) -> None:
        self.failures = failures
        self.run = run
        lines = [f"[{case}] {type(error).__name__}: {str(error)[:MAX_REASON_CHARS]}" for case, error in failures]
        super().__init__("\n".join([f"{len(failures)} of {run} cases failed", *lines]))


def each(names: str | Sequence[str], values: Iterable[Any], ids: Any = None) -> Any:
    """Run the decorated test with each of these values, like pytest.mark.parametrize, as one test."""
    if os.environ.get("LOCKGATE_EACH") == "apart":
        return pytest.mark.parametrize(names, values, ids=ids)
    keys = tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else tuple(names)
    values = list(values)
    assert values, f"no values of {keys}"
    cases = [_case(keys, one) for one in values]
    given = list(ids) if ids is not None and not callable(ids) else [None] * len(cases)
    labels = [label or _label(case, ids if callable(ids) else None) for label, case in zip(given, cases, strict=True)]

    def decorate(test: Test) -> Test:
        assert not inspect.iscoroutinefunction(test), "cases of a coroutine are tests of their own"
        signature = inspect.signature(test)

        @functools.wraps(test)
        def run_each(**fixtures: Any) -> None:
            failures: list[tuple[str, BaseException]] = []
            run = 0
            for label, case in zip(labels, cases, strict=True):
                run += 1
                try:
                    test(**fixtures, **case)
                except CasesFailedError as error:  # of the decorator below
                    run += error.run - 1
                    failures += [(f"{label}, {inner}", reason) for inner, reason in error.failures]
                except (Exception, pytest.fail.Exception) as error:
                    if "pytest-timeout" in str(error):
                        raise
                    failures.append((label, error))
            if failures:
                raise CasesFailedError(failures, run) from failures[0][1]

        left = [parameter for name, parameter in signature.parameters.items() if name not in keys]
        assert len(left) + len(keys) == len(signature.parameters), f"the test has no argument for one of {keys}"
        run_each.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return run_each

    return decorate


def _case(keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return the arguments of one case."""
    if hasattr(value, "marks"):  # pytest.param
        assert not value.marks, "a case with a mark is a test of its own"
        return dict(zip(keys, value.values, strict=True))
    return {keys[0]: value} if len(keys) == 1 else dict(zip(keys, value, strict=True))


def _label(case: dict[str, Any], name_of: Callable[[Any], Any] | None) -> str:
    """Return the values of a case for a message."""
    texts = {name: str((name_of and name_of(value)) or repr(value)) for name, value in case.items()}
    return ", ".join(f"{name}={text if len(text) <= 120 else text[:120] + '…'}" for name, text in texts.items())
