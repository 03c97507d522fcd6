"""Random access to the bytes of base64 text, so that the header of a large picture is read without decoding the picture."""

from __future__ import annotations

import base64
import binascii

MAX_PREFIX_CHARS = 256
"""Maximum length of the part of a data URL before the data."""


class Encoded:
    """The bytes of base64 text. Only the bytes that are read are decoded; if the text is invalid, a read returns no bytes."""

    __slots__ = ("_start", "_text", "size")

    def __init__(self, text: str, start: int = 0) -> None:
        """`start` is the index of the first character of the data."""
        self._text = text
        self._start = start
        padding = text.endswith("==") + text.endswith("=")
        self.size = max(0, (len(text) - start) * 3 // 4 - padding)
        """Number of bytes; an upper bound if the text contains line breaks."""

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`. Return fewer bytes at the end, and none for invalid text."""
        first = offset // 3
        last = (offset + count + 2) // 3
        piece = self._text[self._start + 4 * first : self._start + 4 * last].rstrip("=")
        piece = piece[: len(piece) - 1] if len(piece) % 4 == 1 else piece
        try:
            data = base64.b64decode(piece + "=" * (-len(piece) % 4), altchars=b"-_" if "-" in piece or "_" in piece else None)
        except (binascii.Error, ValueError):
            return b""
        begin = offset - 3 * first
        return data[begin : begin + count]

    def all(self) -> bytes:
        """Return all bytes, or none for invalid text."""
        try:
            return base64.b64decode(self._text[self._start :])
        except (binascii.Error, ValueError):
            return b""


def data_url(address: str) -> tuple[str, Encoded] | None:
    """Return the media type and the data of a base64 data URL, or None for any other address."""
    if address[:5].lower() != "data:":
        return None
    comma = address.find(",", 0, MAX_PREFIX_CHARS)
    if comma < 0:
        return None
    kind, *options = address[5:comma].lower().split(";")
    return (kind.strip(), Encoded(address, comma + 1)) if "base64" in [option.strip() for option in options] else None
