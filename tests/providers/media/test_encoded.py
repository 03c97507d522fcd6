"""Reads of base64 text: the same bytes as after decoding all of it, whatever the offset."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from providers.media.encoded import Encoded, data_url
from tests.support.each import each


@given(st.binary(max_size=60), st.integers(0, 70), st.integers(0, 70))
def test_a_read_returns_a_slice_of_the_bytes(data: bytes, offset: int, count: int) -> None:
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        encoded = Encoded(f"prefix,{text}", 7)
        assert encoded.read(offset, count) == data[offset : offset + count]
        assert encoded.size == len(data)


def test_only_the_part_that_is_read_has_to_be_base64() -> None:
    encoded = Encoded(base64.b64encode(b"head of a picture").decode() + "\u00e4" * 400)
    assert encoded.read(0, 4) == b"head"
    assert encoded.read(30, 10) == b""


@each(
    ("address", "kind"),
    [
        ("data:image/png;base64,aGk=", "image/png"),
        ("DATA:Image/PNG;name=x;BASE64,aGk=", "image/png"),
        ("data:;base64,aGk=", ""),
        ("data:text/plain,hi", None),
        ("https://example.com/a.png", None),
        ("data:image/png;base64", None),
    ],
)
def test_a_base64_data_url_is_recognized(address: str, kind: str | None) -> None:
    found = data_url(address)
    assert (found[0] if found else None) == kind
    assert found is None or found[1].all() == b"hi"
