"""The head of a request on the wire."""

from __future__ import annotations

import pytest

from gateway.upstream.request_head import authority, encode_head, origin_part
from gateway.upstream.transport import Origin, UpstreamError
from providers.base import WireRequest
from tests.support.each import each

ORIGIN = Origin("https", "api.example", 443)


@each(
    ("origin", "expected"),
    [
        (ORIGIN, "api.example"),
        (Origin("https", "api.example", 8443), "api.example:8443"),
        (Origin("http", "api.example", 80), "api.example"),
        (Origin("http", "::1", 8000), "[::1]:8000"),
    ],
)
def test_the_authority_omits_the_default_port_and_brackets_ipv6(origin: Origin, expected: str) -> None:
    assert authority(origin) == expected


def test_headers_of_the_connection_are_written_here_alone() -> None:
    request = WireRequest("/v1/x", [("host", "evil"), ("content-length", "99"), ("x-a", "1")], b"12345")
    assert encode_head(request, origin_part(ORIGIN)) == (
        b"POST /v1/x HTTP/1.1\r\nhost: api.example\r\naccept-encoding: identity\r\ncontent-length: 5\r\nx-a: 1\r\n\r\n"
    )


@each(
    ("path", "value"),
    [("/a b", "1"), ("/a\r\nx: y", "1"), ("/a", "1\r\nx: y"), ("/a", "1\nx: y"), ("/a", "1\0"), ("/a", "\u20ac")],
)
def test_a_value_that_would_not_stay_one_value_is_rejected(path: str, value: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        encode_head(WireRequest(path, [("x-a", value)], b""), origin_part(ORIGIN))
    assert caught.value.kind == "protocol"
