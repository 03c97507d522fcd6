"""The number of pages of a PDF document."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from providers.media.encoded import Encoded

STEP_BYTES = 192 << 10
"""Number of bytes that are decoded or searched in one step, during which no other thread runs. A multiple of 3."""
MAX_INFLATED_BYTES = 8 << 20
"""Maximum number of bytes of inflated object streams in which pages are counted."""
MIN_PAGE_BYTES = 1_000
"""Assumed size of a page if the pages cannot be counted, as in an encrypted document."""
_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_COUNT = re.compile(rb"/Count\s+(\d{1,6})(?!\d)")
_STREAM = re.compile(rb"/ObjStm[^\0]{0,400}?stream\r?\n")
_OVERLAP = 32


def pdf_pages(data: Encoded) -> int:
    """Return the number of pages, or an upper bound from the size if the document cannot be read."""
    source = b"".join(data.read(at, STEP_BYTES) for at in range(0, data.size, STEP_BYTES))
    return _pages(source) or _pages(_inflated(source)) or max(1, data.size // MIN_PAGE_BYTES)


def _pages(source: bytes) -> int:
    """Return the larger of the number of page objects and the number that the page tree states."""
    pages = total = 0
    for start in range(0, len(source), STEP_BYTES):
        piece = source[start : start + STEP_BYTES + _OVERLAP]
        pages += sum(match.start() < STEP_BYTES for match in _PAGE.finditer(piece))
        total = max([total, *(int(count) for count in _COUNT.findall(piece))])
    return max(pages, total)


def _inflated(source: bytes) -> bytes:
    """Return the objects in compressed object streams."""
    room, parts = MAX_INFLATED_BYTES, []
    for at in _positions(source, b"/ObjStm"):
        match = _STREAM.match(source, at)
        if match is None:
            continue
        try:
            part = zlib.decompressobj().decompress(source[match.end() : match.end() + MAX_INFLATED_BYTES], room)
        except zlib.error:
            continue
        parts.append(part)
        room -= len(part)
        if room <= 0:
            break
    return b"\n".join(parts)


def _positions(source: bytes, needle: bytes) -> Iterator[int]:
    for start in range(0, len(source), STEP_BYTES):
        end = start + STEP_BYTES + len(needle) - 1
        at = source.find(needle, start, end)
        while at >= 0:
            yield at
            at = source.find(needle, at + 1, end)
