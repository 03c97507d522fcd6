"""Sizes of pictures that Pillow has written, and of pictures that are cut off or broken."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from providers.media.encoded import Encoded
from providers.media.image_size import image_size
from tests.support.each import each

PICTURES = json.loads((Path(__file__).parent / "pictures.json").read_text())


def size_of(data: bytes) -> tuple[int, int] | None:
    return image_size(Encoded(base64.b64encode(data).decode()))


@each("name", list(PICTURES["pictures"]))
def test_the_size_of_a_picture_is_in_its_header(name: str) -> None:
    assert image_size(Encoded(PICTURES["pictures"][name])) == (PICTURES["width"], PICTURES["height"])


@each("name", list(PICTURES["pictures"]))
def test_the_size_of_a_picture_that_is_cut_off_is_right_or_unknown(name: str) -> None:
    data = base64.b64decode(PICTURES["pictures"][name] + "==")
    for length in (*range(64), *range(64, min(len(data), 700), 7)):
        assert size_of(data[:length]) in (None, (PICTURES["width"], PICTURES["height"]))


HEADS = [b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF____WEBPVP8X", b"II*\0", b"MM\0*", b"____ftyp", b"GIF89a"]


@given(st.sampled_from(HEADS), st.binary(max_size=80))
def test_a_broken_header_is_no_error(head: bytes, rest: bytes) -> None:
    size = size_of(head + rest)
    assert size is None or min(size) > 0


def test_large_segments_before_the_frame_header_are_skipped() -> None:
    """Each of several segments has 64 KB of a thumbnail or a colour profile."""
    segments = b"".join(b"\xff\xe2" + struct.pack(">H", 65_535) + b"\xff" * 65_533 for _ in range(5))
    assert size_of(b"\xff\xd8" + segments + b"\xff\xff\xc2\0\x11\x08" + struct.pack(">HH", 3024, 4032)) == (4032, 3024)


def test_a_picture_without_an_end_of_its_segments_is_unknown() -> None:
    assert size_of(b"\xff\xd8" + b"\xff\xe0\0\x02" * 5_000) is None
