"""Garbage collector settings: freeze startup objects, collect less often."""

from __future__ import annotations

import gc

MAX_UNFROZEN = 10_000
"""Maximum number of a forked process's own objects that are left to the collector, which visits so many in 2 ms."""
THRESHOLDS = (50_000, 10, 10)
"""Allocations before the youngest generation is collected, and collections before an older one is collected."""

_shares_frozen = False
"""Whether the frozen objects are shared with other processes, and none of them is this process's own."""


def pause_collection() -> None:
    """Stop garbage collection during the start, which creates hardly any garbage. `freeze_startup_objects` resumes it."""
    gc.disable()


def freeze_before_fork() -> None:
    """Exclude all objects from garbage collection, here and in the processes that are forked from now on, which share them."""
    global _shares_frozen
    gc.collect()
    gc.freeze()
    _shares_frozen = True


def freeze_startup_objects() -> None:
    """Exclude modules and configuration from garbage collection.

    Call this after the start, and after each reload when the calls of the replaced configuration have ended.
    """
    # A full collection would visit all of these objects again: 35,000 containers, 6 to 8 ms (measured) in which nothing is served.
    # Reference counts free calls and their bodies; only rare cycles, of tracebacks and tasks, are left to the collector, so the
    # youngest generation is larger than Python's default. An open stream has about 100 containers: a small generation would visit
    # most of those of 2,000 new streams twice, an eighth of the CPU time. Memory stays bounded: collections still run, if less often.
    # A replaced configuration is a cycle of frozen objects, so it is freed here, and not by those collections.
    global _shares_frozen
    if not _shares_frozen:
        gc.unfreeze()
    gc.collect()
    # A collection writes to each object that it visits, which would end the sharing of its page. Objects that a forked process
    # has frozen could not be told from the shared ones at the next reload, so it freezes its own only if they are many.
    if not _shares_frozen or len(gc.get_objects()) > MAX_UNFROZEN:
        _shares_frozen = False
        gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()
