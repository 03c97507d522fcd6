"""Line ends in event streams: CR, LF and CRLF end a line."""

from __future__ import annotations


def with_lf(piece: bytes, after_cr: bool) -> tuple[bytes, bool]:
    """Return a piece of a stream with LF as the line end, and whether the piece ends with a CR.

    `after_cr` states whether the piece before it ended with a CR, whose line end may continue with an LF.
    """
    if after_cr and piece:
        piece, after_cr = piece.removeprefix(b"\n"), False
    if b"\r" in piece:
        after_cr = piece.endswith(b"\r")
        piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return piece, after_cr
