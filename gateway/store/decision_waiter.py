"""Waiting for a decision of a limiter: with a future, or with any object that takes the result in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")


class DecisionWaiter(Protocol):
    """Receives a decision; a future is one."""

    def done(self) -> bool:
        """Return whether the decision is no longer wanted. A reservation is then given back."""
        ...

    def set_result(self, result: Any, /) -> None:
        """Take the decision."""
        ...


async def wait_for_decision(future: asyncio.Future[T], give_back: Callable[[T], None]) -> T:
    """Return the decision. Give it back if it arrives just as the caller disconnects."""
    try:
        return await future
    except BaseException:
        if future.done() and not future.cancelled():
            give_back(future.result())
        raise
