"""Lines on a full disk: none is written in part, and those that are lost are counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.line_writer import LineWriter


class Disk:
    """A file on a disk with room for some bytes, behind `os.write`."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.content = b""

    def write(self, _descriptor: int, data: memoryview) -> int:
        """Write the bytes for which there is room, as write(2) does."""
        if not self.room:
            raise OSError(28, "No space left on device")
        piece = bytes(data[: self.room])
        self.room -= len(piece)
        self.content += piece
        return len(piece)


@contextmanager
def disk(room: int) -> Iterator[Disk]:
    """Replace `os.write` by that of a disk with this much room."""
    found = Disk(room)
    with mock.patch("os.write", found.write):
        yield found


def test_a_line_that_was_begun_is_completed_first() -> None:
    with disk(4) as found:
        writer = LineWriter(1)
        writer.write(b"one\ntwo\nthree\nfour\n")
        assert (found.content, writer.dropped) == (b"one\n", 3)
        found.room = 2
        writer.write(b"five\nsix\n")
        assert (found.content, writer.dropped) == (b"one\nfi", 4)
        writer.write(b"seven\n")
        assert writer.dropped == 5
        found.room = 100
        writer.write(b"eight\n")
        assert (found.content, writer.dropped) == (b"one\nfive\neight\n", 5)


LINES = st.lists(st.binary(max_size=6).map(lambda text: text.replace(b"\n", b"") + b"\n"), min_size=1, max_size=4)


@given(st.lists(st.tuples(st.integers(0, 12), LINES), max_size=8))
def test_every_line_is_written_whole_or_counted(steps: list[tuple[int, list[bytes]]]) -> None:
    with disk(0) as found:
        writer, sent = LineWriter(1), 0
        for room, lines in steps:
            found.room = room
            writer.write(b"".join(lines))
            sent += len(lines)
        found.room = 1000
        writer.write(b"")
        assert found.content.count(b"\n") + writer.dropped == sent
        assert set(found.content.split(b"\n")) <= {line.removesuffix(b"\n") for _, lines in steps for line in lines} | {b""}


def test_a_closed_descriptor_loses_lines_without_an_error() -> None:
    writer = LineWriter(-1)
    writer.write(b"one\ntwo\n")
    assert writer.dropped == 2
