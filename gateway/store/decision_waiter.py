"""Waiting for a decision of a limiter, with a future or another object that receives the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")


class DecisionWaiter(Protocol):
    """An object that receives a decision, such as a future."""

    def done(self) -> bool:
        """Return whether the decision is no longer needed, so that a reservation must be given back."""
        ...

    def set_result(self, result: Any, /) -> None:
        """Take the decision."""
        ...


async def wait_for_decision(future: asyncio.Future[T], give_back: Callable[[T], None]) -> T:
    """Return the decision. If the decision arrives just as the caller disconnects, call `give_back` with it."""
    try:
        return await future
    except BaseException:
        if future.done() and not future.cancelled():
            give_back(future.result())
        raise
