"""Results of hooks that a call cannot use: each is a failure of its hook, as an exception is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import Unavailable
from gateway.hooks.api import Change, Chunk, Emit, Headers, Hook, Refuse, Request, Settled, Skip, Target, Text
from gateway.hooks.load import loaded
from gateway.hooks.results import check_result
from gateway.hooks.run import MAX_NOTES, HookSet, Pieces
from gateway.hooks.testing import FACTS, HookTestError, check_hook
from gateway.metrics import Metrics
from providers.base import Body
from tests.support.attempts import target_named
from tests.support.each import each

REQUEST = Request(FACTS, (Text("a", "b"),), {})
TARGET = Target(FACTS, "p/m", "p", {})
CHUNK = Chunk(FACTS, "c", "text", "b", False, {})
LAST = Chunk(FACTS, "c", "text", "b", True, {})
SETTLED = Settled(FACTS, 200, None, "p/m", 1, 1, 0.0, 0.1, {})
GIVEN = {"request": REQUEST, "target": TARGET, "chunk": CHUNK, "settled": SETTLED}
SURROGATE = "\ud800"
wrong: Any = Change  # the types of the fields are those that a hook of someone else returns
emit: Any = Emit
refuse: Any = Refuse
headers: Any = Headers
skip: Any = Skip

WRONG: dict[str, list[Any]] = {
    "request": [
        "yes", True, Emit("b"), wrong(["a"]), wrong({"a": 5}), wrong({"a": b"b"}), wrong({"a": {"b": 1}}), wrong({"a": SURROGATE}),
        wrong({"a": "c"}, why=5), refuse(5), refuse(""), refuse("no", code=5), refuse("no", code=""), refuse("no", code="a\r\nb: c"),
        refuse("no", status="400"), refuse("no", status=400.0), refuse("no", status=True), refuse("no", status=200), refuse(SURROGATE),
    ],
    "target": [
        Change({}), headers(["a"]), headers({"x-a": 5}), headers({"x-a": None}), headers({5: "a"}), headers({"x a": "a"}),
        headers({"": "a"}), headers({"x-a:b": "a"}), headers({"x-a": "a\r\nb: c"}), headers({"x-a": "\0"}), headers({"x-a": "Ж"}),
        headers({"Content-Length": "0"}), headers({"host": "a"}), headers({"Transfer-Encoding": "chunked"}), skip(5), skip(SURROGATE),
    ],
    "chunk": [
        "b", Change({}), emit(5), emit(None), emit(b"b"), emit("b", hold=5), emit("b", hold=None), emit("b", why=5), emit(SURROGATE),
        emit("", hold=SURROGATE),
    ],
    "settled": [1, Refuse("no")],
}  # fmt: skip
RIGHT: dict[str, list[Any]] = {
    "request": [None, Change({}), Change({"a": "Ж\n"}, "why"), Change({"elsewhere": "c"}), Refuse("no", "topic not allowed", 451)],
    "target": [None, Headers({"X-Team": "a b\t", "authorization": "Bearer own"}), Headers({}), Skip("closed"), Refuse("no")],
    "chunk": [None, Emit(""), Emit("Ж", "hold", "why"), Refuse("no")],
    "settled": [None],
}


class Returning(Hook):
    """Calls a function at each of its points."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def request(self, request: Request) -> Any:
        """Return the result of the function."""
        return self.function()


class Following(Hook):
    """Returns a given result from `follows`."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def follows(self, state: dict[str, Any]) -> Any:
        """Return the result of the function."""
        return self.function()

    def chunk(self, chunk: Chunk) -> Any:
        """Change nothing."""


@each(("point", "result"), [(point, result) for point, results in WRONG.items() for result in results])
def test_a_result_that_a_call_cannot_use_is_an_error(point: str, result: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        check_result(point, GIVEN[point], result)


def test_a_result_that_a_call_can_use_is_no_error() -> None:
    for point, results in RIGHT.items():
        for result in results:
            check_result(point, GIVEN[point], result)


def test_no_text_is_held_back_at_the_last_piece() -> None:
    check_result("chunk", CHUNK, Emit("", "b"))
    check_result("chunk", LAST, Emit("b"))
    with pytest.raises(ValueError, match="would be lost"):
        check_result("chunk", LAST, Emit("", "b"))


def raising(error: BaseException) -> Callable[[], Any]:
    """Return a function that raises an exception."""

    def fail() -> None:
        raise error

    return fail


async def ends_a_task_of_its_own() -> None:
    """Wait for a cancelled task."""
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


class Panic(BaseException):
    """An exception like those of extension modules."""


async def test_no_exception_of_a_hook_ends_more_than_its_call() -> None:
    for function in (
        raising(asyncio.CancelledError()), raising(SystemExit(3)), raising(Panic()), raising(RecursionError()), ends_a_task_of_its_own,
    ):  # fmt: skip
        lines: list[str] = []
        hooks = HookSet([loaded(Returning(function))], Metrics(), lines.append)
        with pytest.raises(Unavailable):
            await hooks.ask(hooks.hooks[0], "request", REQUEST)
        assert await hooks.ask(hooks.hooks[0]._replace(failure="open"), "request", REQUEST) is None
        assert len(lines) == 2


async def test_the_end_of_a_call_is_not_a_failure_of_its_hook() -> None:
    lines: list[str] = []
    hooks = HookSet([loaded(Returning(lambda: asyncio.sleep(60)))], Metrics(), lines.append)
    task = asyncio.ensure_future(hooks.ask(hooks.hooks[0], "request", REQUEST))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lines == []


async def test_a_failure_of_follows_is_a_failure_of_the_hook() -> None:
    for function in (raising(RuntimeError()), lambda: asyncio.sleep(0)):
        hook = loaded(Following(function))
        with pytest.raises(Unavailable):
            _ = HookSet([hook], Metrics(), lambda line: None).begin(FACTS).follows_answer
        assert HookSet([hook._replace(failure="open")], Metrics(), lambda line: None).begin(FACTS).follows_answer is False


async def test_the_reason_of_a_hook_on_the_receipt_is_bounded() -> None:
    run = HookSet([loaded(Returning(lambda: Change({"prompt": "b"}, "z" * 100_000)))], Metrics(), lambda line: None).begin(FACTS)
    await run.request([Body(b'{"model":"m","prompt":"a"}')])
    assert [len(each.why) < 600 for each in run.adjustments] == [True]


async def test_the_changes_of_an_answer_on_the_receipt_are_bounded() -> None:
    class Counting(Hook):
        def chunk(self, chunk: Chunk) -> Emit:
            chunk.state["count"] = chunk.state.get("count", 0) + 1
            return Emit(chunk.text, why=f"change {chunk.state['count']}")

    run, pieces = HookSet([loaded(Counting())], Metrics(), lambda line: None).begin(FACTS), Pieces()
    for _ in range(MAX_NOTES + 500):
        assert await run.piece("c", "text", "a", is_last=False, pieces=pieces) == "a"
    assert [each.why for each in pieces.notes] == [f"hook 'hook': change {number}" for number in range(1, MAX_NOTES + 1)]
    pieces.note(pieces.notes[0])
    assert len(pieces.notes) == MAX_NOTES


async def test_headers_of_a_hook_replace_those_before_them() -> None:
    class Naming(Hook):
        def target(self, target: Target) -> Headers:
            return Headers({"X-Team": "a"})

    run = HookSet([loaded(Naming())], Metrics(), lambda line: None).begin(FACTS)
    body = Body(b"{}")
    await run.target(target_named(), body)
    assert body.headers == {"x-team": "a"}
    sent = [("x-team", "forged"), ("accept", "a"), ("accept", "b"), ("x-team", "a")]
    assert run.arrange(sent) == [("accept", "a"), ("accept", "b"), ("x-team", "a")]


def test_a_point_that_is_set_on_the_object_counts() -> None:
    hook = Hook()
    hook.request = lambda request: Refuse("no")  # type: ignore[method-assign]
    assert loaded(hook).points == {"request"}


async def test_conformance_covers_wrong_results_at_every_point() -> None:
    for point, results in WRONG.items():
        for result in results:
            hook = type("Wrong", (Hook,), {point: lambda self, given, result=result: result})()
            with pytest.raises(HookTestError):
                await check_hook(hook)
    for target in RIGHT["target"]:
        await check_hook(type("Right", (Hook,), {"target": lambda self, given, result=target: result})())
    with pytest.raises(HookTestError):
        await check_hook(Following(raising(RuntimeError())))
