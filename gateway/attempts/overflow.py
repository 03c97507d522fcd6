"""Skips targets whose context window is known to be too small, after an upstream refused the prompt as too long."""

from __future__ import annotations

from gateway.attempts.fit import window_sizes
from gateway.attempts.progress import Progress
from gateway.call import SkippedTarget
from gateway.config.model import ContextConfig
from gateway.targets.candidate import Candidate


def note_overflow(progress: Progress, candidate: Candidate) -> None:
    """Record that the prompt exceeded the context window of a target."""
    window = known_window(candidate)
    if window is not None:
        progress.overflowed = max(window, progress.overflowed or 0)


def is_too_small(progress: Progress, candidate: Candidate) -> bool:
    """Return whether a target's window is known to be smaller than a window that the prompt has exceeded.

    If so, record that the target is skipped.
    """
    window = known_window(candidate)
    if window is None or progress.overflowed is None or window >= progress.overflowed:
        return False
    why = f"the prompt exceeds a context window of {progress.overflowed} tokens, and this target's has {window}"
    progress.call.skipped.append(SkippedTarget(candidate.backend.target.name, "messages", why))
    return True


def known_window(candidate: Candidate) -> int | None:
    """Return the context window of a target, or None if it is unknown."""
    return window_sizes(candidate.backend, candidate.settings.context or ContextConfig())[0]
