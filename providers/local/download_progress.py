"""Shows the progress of a download: a bar on a terminal, otherwise one line for every 10 %."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol, TextIO


class Progress(Protocol):
    """Receives the progress of a download."""

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` bytes have arrived."""
        ...

    def finish(self, where: str) -> None:
        """Show that the file is complete at the path `where`."""
        ...


class ProgressLines:
    """Passes one line for every 10 % to `report`."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._tenth = -1

    def update(self, done: int, total: int) -> None:
        tenth = done * 10 // total
        if tenth > self._tenth:
            self._tenth = tenth
            self._report(f"downloading the model: {tenth * 10} % of {total >> 20} MiB")

    def finish(self, where: str) -> None:
        self._report(f"model ready at {where}")


class ProgressBar:
    """A bar, redrawn in place."""

    WIDTH = 30

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def update(self, done: int, total: int) -> None:
        full = done * self.WIDTH // total
        bar = "█" * full + "░" * (self.WIDTH - full)
        self._terminal.write(f"\rdownloading the model {bar} {done >> 20}/{total >> 20} MiB ")
        self._terminal.flush()

    def finish(self, where: str) -> None:
        self._terminal.write(f"\rmodel ready at {where}\x1b[K\n")
        self._terminal.flush()


def progress_to(report: Callable[[str], None] | None) -> Progress:
    """Return a progress that passes lines to `report`.

    Without `report`, the progress is a bar on a terminal, and lines on stderr otherwise.
    """
    if report is not None:
        return ProgressLines(report)
    if sys.stderr.isatty():
        return ProgressBar(sys.stderr)
    return ProgressLines(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201 - the operator asked for it
