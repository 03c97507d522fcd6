"""The request headers that the gateway, a provider or tracing uses.

The head of an ordinary call has none of these headers; reading such a head costs one lookup per header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from gateway.dialects.gateway_headers import MARKS, GatewayHeaders, read_gateway_headers
from gateway.dialects.tags import read_tags
from gateway.errors import refuse
from providers.rules.request_headers import NUMBERS, VENDOR_HEADERS, VENDOR_PREFIXES, WITHOUT_EFFECT

REQUEST_ID, TAGS = b"x-request-id", b"x-gateway-tags"
TRACE_HEADERS = frozenset({b"traceparent", b"tracestate", b"baggage"})
"""W3C Trace Context and Baggage: every upstream gets them."""
_VENDORS = tuple(prefix.encode() for prefix in VENDOR_PREFIXES)
_PREFIXES = (*MARKS, *_VENDORS)
_STARTS = frozenset(prefix[:5] for prefix in _PREFIXES)
"""The first characters of names that may have a prefix: one lookup tells that an ordinary header has none."""
_IGNORED = tuple(name.encode() for name in WITHOUT_EFFECT)
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,9})?")


class KnownHeaders(msgspec.Struct, frozen=True):
    """The names of the headers that are used under one configuration."""

    names: frozenset[bytes]
    """The names, without those that are only in `session` or `end_user` and those with the gateway's prefix."""
    session: frozenset[bytes] = frozenset()
    """The names that the gateway itself uses to keep a conversation at one target."""
    end_user: bytes | None = None
    """The name of the header with the end user."""
    tags: frozenset[str] = frozenset()
    """The tags that the configuration declares."""


class CallerHeaders(msgspec.Struct):
    """The headers of one call that are used."""

    gateway: GatewayHeaders
    request_id: bytes | None = None
    vendor: dict[str, str] = {}
    """Headers that a configured provider forwards, that a provider type defines, or that have the prefix of a vendor."""
    trace: list[tuple[str, str]] = []
    used: frozenset[str] = frozenset()
    """Names in `vendor` that the gateway itself uses."""


def known_headers(
    forwarded: Iterable[str] = (), session: Iterable[str] = (), end_user: str | None = None, tags: Iterable[str] = ()
) -> KnownHeaders:
    """Return the names of the headers that are used under one configuration.

    `forwarded` are the headers that providers get, `session` are the headers that identify a conversation, and `end_user`
    is the header that names the end user. `tags` are the tags that the configuration declares.
    """
    used = frozenset(name.lower().encode() for name in session)
    names = {name.encode() for name in (*VENDOR_HEADERS, *forwarded)}
    user = end_user.lower().encode() if end_user is not None else None
    return KnownHeaders(frozenset({REQUEST_ID, *TRACE_HEADERS, *names}), used, user, frozenset(tags))


def read_headers(headers: Sequence[tuple[bytes, bytes]], known: KnownHeaders) -> CallerHeaders | None:
    """Return the headers that are used, or None if the request has none of them.

    Raise BadRequest for an unknown `x-gateway-*` header or an invalid value.
    """
    names = known.names
    found = [header for header in headers if header[0] in names or header[0][:5] in _STARTS]
    if found:
        found = [header for header in found if header[0] in names or _may_have_effect(header[0])]
    return _sort(found, known) if found else None


def gateway_tags(headers: Sequence[tuple[bytes, bytes]], known: KnownHeaders) -> tuple[str, ...]:
    """Return the tags in the headers of a passed call. Raise BadRequest for an undeclared tag or too many tags."""
    return read_tags(b",".join(value for name, value in headers if name == TAGS), known.tags)


def _may_have_effect(name: bytes) -> bool:
    """Return whether a name has the prefix of the gateway or of a vendor, and its header may have an effect."""
    return name.startswith(_PREFIXES) and not name.startswith(_IGNORED)


def _sort(found: list[tuple[bytes, bytes]], known: KnownHeaders) -> CallerHeaders:
    configured = known.session if known.end_user is None else {*known.session, known.end_user}
    sorted_ = CallerHeaders(read_gateway_headers(found, configured, known.tags))
    for name, value in _joined(found).items():
        if name == REQUEST_ID:
            sorted_.request_id = value
        elif name in TRACE_HEADERS:
            sorted_.trace.append((name.decode(), value.decode("latin-1")))
        elif name in known.names or name.startswith(_VENDORS):
            text = value.decode("latin-1").strip()
            param = name.decode()
            if param in NUMBERS and not _NUMBER.fullmatch(text):
                raise refuse(param, f"Header '{param}' must be a number, not {text[:64]!r}.")
            sorted_.vendor[param] = text
    sorted_.used = frozenset(name.decode() for name in configured if name.decode() in sorted_.vendor)
    return sorted_


def _joined(found: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return each header once. The values of a repeated header form a list (RFC 9110); of repeated request ids, the last applies."""
    joined: dict[bytes, bytes] = {}
    for name, value in found:
        joined[name] = value if name not in joined or name == REQUEST_ID else joined[name] + b"," + value
    return joined
