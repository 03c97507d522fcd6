"""Line ends in event streams, in pieces of any size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.streams.line_ends import with_lf


@given(st.lists(st.sampled_from((b"\r", b"\n", b"\r\n", b"a"))), st.lists(st.integers(0, 4), max_size=20))
def test_pieces_of_any_size_have_the_same_lines_as_the_whole(parts: list[bytes], sizes: list[int]) -> None:
    whole = b"".join(parts)
    at, after_cr, out = 0, False, b""
    for size in (*sizes, len(whole)):
        piece, after_cr = with_lf(whole[at : at + size], after_cr)
        out += piece
        at += size
    assert out == whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert after_cr is whole.endswith(b"\r")
