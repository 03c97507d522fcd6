"""The effect of a caller's `Cache-Control` header."""

from __future__ import annotations

from gateway.cache.control import CacheControl, read_cache_control
from tests.support.each import each

EVERYTHING = CacheControl()


@each("header, expected", [
    (b"", EVERYTHING),
    (b"no-store", CacheControl(False, False)),
    (b"no-cache", CacheControl(False, True)),
    (b"max-age=60", CacheControl(max_age_s=60)),
    (b'max-age="60"', CacheControl(max_age_s=60)),
    (b"No-Transform , MAX-AGE=5,max-age=9", CacheControl(max_age_s=5)),
    (b"max-age=99999999999999999999", CacheControl(max_age_s=999_999_999)),
    (b"max-age=0", CacheControl(max_age_s=0)),
    (b"max-age=0000000060", CacheControl(max_age_s=60)),
    (b"no-store; max-age=60", CacheControl(False, False, 60)),
    (b"max-age=60 ;no-store", CacheControl(False, False, 60)),
    (b"no-cache;", CacheControl(False, True)),
    (b"max-age=-1, max-age=x, =, , no-storex", EVERYTHING),
])  # fmt: skip
def test_directive_is_read(header: bytes, expected: CacheControl) -> None:
    assert read_cache_control([(b"cache-control", header)]) == expected


def test_several_headers_count_together() -> None:
    headers = [(b"cache-control", b"max-age=9"), (b"x-other", b"no-store"), (b"cache-control", b"no-cache")]
    assert read_cache_control(headers) == CacheControl(False, True, 9)
