"""Checks of a parsed request head, its URL, and offers to upgrade to another protocol."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

import httptools

from gateway.http.page_guard import PageRules
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
)

Headers = Sequence[tuple[bytes, bytes]]

MAX_CACHED_URLS = 256
MAX_CACHED_URL_BYTES = 256
_url_cache: dict[bytes, tuple[str, bytes, bytes]] = {}
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+\Z")
_CHECKED_HEADERS = frozenset({b"host", b"expect", b"transfer-encoding", b"origin", b"sec-fetch-site"})


def check_head(
    headers: Headers, url: bytes, version: str, rules: PageRules | None
) -> tuple[Problem | None, bool, bool]:
    """Return the problem of a head or None, whether `100 Continue` is expected, and whether the body is chunked."""
    size, hosts, host, origin, site = 4 * len(headers), 0, b"", b"", b""
    expects_continue = is_chunked = is_encoded = False
    for name, value in headers:
        size += len(name) + len(value)
        if name not in _CHECKED_HEADERS:
            continue
        if name == b"host":
            hosts, host = hosts + 1, value
        elif name == b"expect":
            expects_continue = value.lower() == b"100-continue"
        elif name == b"transfer-encoding":
            is_encoded = is_encoded or is_chunked or value.lower() != b"chunked"
            is_chunked = True
        elif name == b"origin":
            origin = value
        else:
            site = value.lower()
    problem = None
    if size > MAX_HEAD_BYTES or len(headers) > MAX_HEADERS or len(url) > MAX_HEAD_BYTES:
        problem = HEAD_TOO_LARGE
    elif (hosts != 1 or not _HOST.match(host)) and (hosts or version != "1.0"):
        problem = INVALID_HOST
    elif is_encoded:
        problem = INVALID_ENCODING
    elif rules is not None:
        problem = rules.check(host, origin, site)
    return problem, expects_continue, is_chunked


def without_offer(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """Return a head without its offers of other protocols.

    Raise RejectedRequestError if the head is that of a WebSocket handshake or a CONNECT request.
    """
    if method == b"CONNECT":
        raise RejectedRequestError(INVALID_HTTP)
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    for name, value in headers:
        if name != b"upgrade":
            lines.append(b"%b: %b" % (name, value))
        elif b"websocket" in value.lower():
            raise RejectedRequestError(UPGRADE_UNSUPPORTED)
    return b"\r\n".join([*lines, b"\r\n"])


def split_url(url: bytes) -> tuple[str, bytes, bytes]:
    """Return the path, decoded and raw, and the query of a URL. Short URLs without a query are cached."""
    parts = _url_cache.get(url)
    if parts is not None:
        return parts
    parsed = httptools.parse_url(url)
    raw, query = parsed.path or b"", parsed.query or b""
    path = raw.decode("ascii")
    parts = (unquote(path) if "%" in path else path, raw, query)
    if not query and len(url) < MAX_CACHED_URL_BYTES:  # a query may hold a secret
        if len(_url_cache) >= MAX_CACHED_URLS:
            _url_cache.clear()
        _url_cache[url] = parts
    return parts
