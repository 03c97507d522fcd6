"""Redis URLs: one server, Sentinel, a cluster, and a unix socket."""

from __future__ import annotations

import pytest

from gateway.config.redis_address import RedisAddress, read_address
from tests.support.each import each


@each(
    ("url", "address"),
    [
        ("redis://h", RedisAddress("h")),
        ("redis://u:p%40@h:7/2", RedisAddress("h", 7, user="u", password="p@", database=2)),
        ("rediss://:p@h/0", RedisAddress("h", tls=True, password="p")),
        (
            "redis+sentinel://:p@a,b:7/main/2",
            RedisAddress(password="p", database=2, kind="sentinel", nodes=(("a", 26379), ("b", 7)), service="main"),
        ),
        ("rediss+cluster://u:p@a,[::1]:7", RedisAddress(tls=True, user="u", password="p", kind="cluster", nodes=(("a", 6379), ("::1", 7)))),
        ("unix:///x/y.sock?db=3", RedisAddress(path="/x/y.sock", database=3, host="127.0.0.1")),
    ],
)
def test_urls_are_parsed(url: str, address: RedisAddress) -> None:
    assert read_address(url) == address


@each("url", ["redis+sentinel://h", "redis+cluster://h/1", "redis://h/zero", "http://h"])
def test_invalid_urls_are_rejected(url: str) -> None:
    with pytest.raises(ValueError, match=r"Redis|Sentinel"):
        read_address(url)
