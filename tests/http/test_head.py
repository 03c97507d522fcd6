"""Checks of a parsed head, and heads without their offers to upgrade."""

from __future__ import annotations

import httptools
import pytest

from gateway.http.head import MAX_CACHED_URLS, check_head, split_url, without_offer
from gateway.http.page_guard import CROSS_SITE, PageRules
from gateway.http.rejection import (
    HEAD_TOO_LARGE,
    INVALID_ENCODING,
    INVALID_HOST,
    INVALID_HTTP,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    UPGRADE_UNSUPPORTED,
    Problem,
    RejectedRequestError,
    error_response,
    problem_of,
)
from tests.support.each import each

HOST = (b"host", b"localhost")


@each(("headers", "problem"), [
    ([HOST], None), ([], INVALID_HOST), ([HOST, HOST], INVALID_HOST), ([(b"host", b"a b")], INVALID_HOST),
    ([HOST, (b"x", b"y" * MAX_HEAD_BYTES)], HEAD_TOO_LARGE), ([HOST] + [(b"x", b"y")] * MAX_HEADERS, HEAD_TOO_LARGE),
    ([HOST, (b"transfer-encoding", b"gzip, chunked")], INVALID_ENCODING), ([HOST, (b"transfer-encoding", b"Chunked")], None),
    ([HOST, (b"transfer-encoding", b"chunked")] * 1 + [(b"transfer-encoding", b"chunked")], INVALID_ENCODING),
])  # fmt: skip
def test_a_head_is_checked(headers: list[tuple[bytes, bytes]], problem: Problem | None) -> None:
    assert check_head(headers, b"/", "1.1", None)[0] == problem


def test_page_rules_apply_only_where_given() -> None:
    headers = [HOST, (b"origin", b"https://evil.example"), (b"sec-fetch-site", b"Cross-Site")]
    assert check_head(headers, b"/", "1.1", None)[0] is None
    assert check_head(headers, b"/", "1.1", PageRules(()))[0] == CROSS_SITE
    assert check_head([HOST, headers[2]], b"/", "1.1", PageRules(()))[0] == CROSS_SITE


def test_expect_and_chunked_are_reported() -> None:
    headers = [HOST, (b"expect", b"100-Continue"), (b"transfer-encoding", b"chunked")]
    assert check_head(headers, b"/", "1.1", None) == (None, True, True)
    assert check_head([], b"/", "1.0", None) == (None, False, False)


def test_a_head_without_its_offer_parses_to_the_same_request() -> None:
    headers = [HOST, (b"connection", b"upgrade"), (b"upgrade", b"foo"), (b"content-length", b"2")]
    found: list[tuple[bytes, bytes]] = []

    class Seen:
        def on_header(self, name: bytes, value: bytes) -> None:
            found.append((name, value))

    parser = httptools.HttpRequestParser(Seen())
    parser.feed_data(without_offer(b"PUT", b"/a?b", "1.1", headers))
    assert not parser.should_upgrade()
    assert (parser.get_method(), parser.get_http_version()) == (b"PUT", "1.1")
    assert found == [header for header in headers if header[0] != b"upgrade"]


@pytest.mark.parametrize(("method", "offer", "problem"), [
    (b"GET", b"WebSocket", UPGRADE_UNSUPPORTED), (b"GET", b"h2c, websocket", UPGRADE_UNSUPPORTED), (b"CONNECT", b"h2c", INVALID_HTTP),
])  # fmt: skip
def test_some_offers_are_rejected(method: bytes, offer: bytes, problem: Problem) -> None:
    with pytest.raises(RejectedRequestError) as caught:
        without_offer(method, b"/", "1.1", [HOST, (b"upgrade", offer)])
    assert caught.value.problem == problem


def test_a_parser_error_has_the_problem_of_its_callback() -> None:
    error = httptools.HttpParserError("x")
    assert problem_of(error) == INVALID_HTTP
    error.__context__ = RejectedRequestError(INVALID_HOST)
    assert problem_of(error) == INVALID_HOST
    assert error_response(INVALID_HOST).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_url_is_split_once_and_one_with_a_query_is_not_cached() -> None:
    assert split_url(b"/a%20b") == ("/a b", b"/a%20b", b"")
    assert split_url(b"/a%20b") is split_url(b"/a%20b")
    assert split_url(b"/a?key=b") == ("/a", b"/a", b"key=b")
    assert split_url(b"/a?key=b") is not split_url(b"/a?key=b")


def test_invented_urls_do_not_end_the_use_of_the_cache() -> None:
    for number in range(MAX_CACHED_URLS + 1):
        split_url(b"/invented/%d" % number)
    assert split_url(b"/a%20b") is split_url(b"/a%20b")
