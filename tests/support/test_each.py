"""tests.support.each: every case runs, and every failure is named."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tests.support.each import CasesFailedError, each


def test_all_combinations_run_although_some_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCKGATE_EACH", raising=False)
    seen = []

    @each("kind", ["a", "b"])
    @each(("value", "sent"), [(1, 1), (2, 3), pytest.param(4, 4, id="four")])
    def behaviour(kind: str, value: int, sent: int) -> None:
        seen.append((kind, value, sent))
        assert value == sent, "they differ"
        if (kind, value) == ("b", 4):
            with pytest.raises(ValueError, match="x"):
                pass

    with pytest.raises(CasesFailedError) as caught:
        behaviour()
    assert seen == [(kind, *pair) for kind in "ab" for pair in ((1, 1), (2, 3), (4, 4))]
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 6 cases failed"
    assert [line.partition("]")[0] for line in lines if line.startswith("[")] == [
        "[kind='a', value=2, sent=3", "[kind='b', value=2, sent=3", "[kind='b', value=4, sent=4",
    ]  # fmt: skip
    assert isinstance(caught.value.__cause__, AssertionError)
    assert "they differ" in lines[1]


@pytest.mark.parametrize("ids", [["one", "two"], {"one": 1, "two": 2}, lambda value: {1: "one", 2: "two"}[value]])
def test_failures_have_the_ids(monkeypatch: pytest.MonkeyPatch, ids: Any) -> None:
    monkeypatch.delenv("LOCKGATE_EACH", raising=False)

    @each("value", [1, 2], ids=ids)
    def behaviour(value: int) -> None:
        raise ValueError("x")

    with pytest.raises(CasesFailedError, match=r"2 of 2 cases failed\n\[(value=)?one\] ValueError: x\n\[(value=)?two\] ValueError: x"):
        behaviour()


def test_fixtures_stay_arguments_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCKGATE_EACH", raising=False)

    @each("value", [1, 2])
    def behaviour(tmp_path: Any, value: int) -> None:
        assert (tmp_path, value > 0) == ("folder", True)

    assert list(inspect.signature(behaviour).parameters) == ["tmp_path"]
    behaviour(tmp_path="folder")


def test_a_timeout_ends_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCKGATE_EACH", raising=False)
    seen = []

    @each("value", [1, 2])
    def behaviour(value: int) -> None:
        seen.append(value)
        pytest.fail("Timeout (>60.0s) from pytest-timeout.")

    with pytest.raises(pytest.fail.Exception):
        behaviour()
    assert seen == [1]


@pytest.mark.parametrize(
    ("names", "values"),
    [("value", []), ("other", [1]), ("value", [pytest.param(1, marks=pytest.mark.prove)])],
    ids=["no values", "unknown name", "a mark"],
)
def test_a_wrong_use_fails_at_once(monkeypatch: pytest.MonkeyPatch, names: str, values: list[Any]) -> None:
    monkeypatch.delenv("LOCKGATE_EACH", raising=False)
    with pytest.raises(AssertionError):
        each(names, values)(lambda value: None)


async def test_a_coroutine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def behaviour(value: int) -> None:
        """Do nothing."""

    monkeypatch.delenv("LOCKGATE_EACH", raising=False)
    with pytest.raises(AssertionError, match="coroutine"):
        each("value", [1])(behaviour)


def test_each_case_may_be_a_test_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKGATE_EACH", "apart")
    mark = each("value", [1, 2])
    assert (mark.name, mark.args) == ("parametrize", ("value", [1, 2]))
