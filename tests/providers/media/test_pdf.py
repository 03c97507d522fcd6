"""Pages of PDF documents: plain, with compressed objects, and unreadable."""

from __future__ import annotations

import base64
import zlib

from providers.media.encoded import Encoded
from providers.media.pdf import MIN_PAGE_BYTES, STEP_BYTES, pdf_pages
from tests.support.each import each

PAGE = b"3 0 obj <</Type /Page /Parent 2 0 R>> endobj\n"


def pages(data: bytes) -> int:
    return pdf_pages(Encoded(base64.b64encode(data).decode()))


def document(count: int, between: bytes = b"") -> bytes:
    """Return a document with this number of pages."""
    tree = b"2 0 obj <</Type /Pages /Count %d /Kids []>> endobj\n" % count
    return b"%PDF-1.4\n" + tree + between.join([PAGE] * count) + b"%%EOF"


@each("count", [1, 7, 300])
def test_pages_are_counted(count: int) -> None:
    assert pages(document(count)) == count


def test_pages_at_the_ends_of_steps_are_counted_once() -> None:
    source = document(40, between=b"%" * (STEP_BYTES // 8 - 17)).replace(b"/Count 40", b"/Count 0 ")
    assert pages(source) == 40


def test_pages_in_compressed_objects_are_counted() -> None:
    inner = zlib.compress(b"1 0 2 50 " + PAGE * 12)
    stream = b"5 0 obj <</Type /ObjStm /N 12 /Filter /FlateDecode /Length %d>>\nstream\n" % len(inner) + inner + b"\nendstream"
    assert pages(b"%PDF-1.7\n" + stream) == 12


def test_an_unreadable_document_is_bounded_by_its_size() -> None:
    assert pages(b"%PDF-1.7\n" + b"\x80" * (5 * MIN_PAGE_BYTES)) == 5
    assert pages(b"%PDF-1.7\n/ObjStm stream\nbroken") == 1
