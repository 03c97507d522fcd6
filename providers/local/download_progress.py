"""How far a download is: a bar on a terminal, otherwise a line for every tenth."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol, TextIO


class Progress(Protocol):
    """Told how far a download is."""

    def update(self, done: int, total: int) -> None:
        """`done` of `total` bytes are here."""
        ...

    def finish(self, where: str) -> None:
        """All of it is in place at `where`."""
        ...


class ProgressLines:
    """One line for every tenth, to `report`."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._tenth = -1

    def update(self, done: int, total: int) -> None:
        """Report when another tenth is full."""
        tenth = done * 10 // total
        if tenth > self._tenth:
            self._tenth = tenth
            self._report(f"fetching the model: {tenth * 10} % of {total >> 20} MiB")

    def finish(self, where: str) -> None:
        """Report the path."""
        self._report(f"model ready at {where}")


class ProgressBar:
    """A bar that is redrawn in place."""

    WIDTH = 30

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def update(self, done: int, total: int) -> None:
        """Redraw."""
        full = done * self.WIDTH // total
        bar = "█" * full + "░" * (self.WIDTH - full)
        self._terminal.write(f"\rfetching the model {bar} {done >> 20}/{total >> 20} MiB ")
        self._terminal.flush()

    def finish(self, where: str) -> None:
        """End the bar's line with the path."""
        self._terminal.write(f"\rmodel ready at {where}\x1b[K\n")
        self._terminal.flush()


def progress_to(report: Callable[[str], None] | None) -> Progress:
    """Lines to `report`; without one to stderr, as a bar where that is a terminal."""
    if report is not None:
        return ProgressLines(report)
    if sys.stderr.isatty():
        return ProgressBar(sys.stderr)
    return ProgressLines(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201 - the operator asked for it
