"""Finds connections that are left to the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Coroutine
from typing import Any


def warnings_of(work: Callable[[], Coroutine[Any, Any, None]], loop: Callable[[], asyncio.AbstractEventLoop]) -> list[str]:
    """Run `work` on a new loop, and return the warnings until its garbage is collected, such as those about open transports."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(work())
        gc.collect()
    return [str(warning.message) for warning in caught]
