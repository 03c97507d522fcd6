"""Raw paths: the checks that keep a path inside its pattern, the path at the provider, and addresses in responses.

Paths are never decoded for matching or sending, so the gateway and the provider see the same bytes.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urlsplit

from gateway.errors import BadRequest
from gateway.passthrough.rules import Rule
from gateway.upstream.transport import Origin

MAX_DECODINGS = 4
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_BAD_BYTE = re.compile(rb"[\x00-\x20\x7f\\]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
METHOD_PARAMETER = "$httpmethod"
"""The parameter that sets another method in Google's APIs."""
_NOT_SENT = frozenset({
    METHOD_PARAMETER, "$key",
    "access_token", "api-key", "api_key", "apikey", "auth", "authorization", "key", "ocp-apim-subscription-key", "subscription-key",
    "token", "x-api-key", "x-goog-api-key",
})  # fmt: skip
"""Parameters in which vendors expect a key, and METHOD_PARAMETER."""


def check_path(raw: bytes) -> None:
    """Raise BadRequest for a path that another server could understand as a path outside its pattern."""
    if b"//" in raw:
        raise _invalid("'//'")
    level = raw
    for _ in range(MAX_DECODINGS):
        if _BAD_ESCAPE.search(level) and level is raw:
            raise _invalid("an incomplete percent escape")
        if _BAD_BYTE.search(level):
            raise _invalid("a backslash, a space or a control character, perhaps encoded")
        if any(segment.partition(b";")[0] in (b".", b"..") for segment in level.split(b"/")):
            raise _invalid("a segment '.' or '..', perhaps encoded")
        decoded = unquote_to_bytes(level)
        if decoded == level:
            return
        level = decoded
    raise _invalid("too many levels of percent encoding")


def _invalid(what: str) -> BadRequest:
    return BadRequest(f"The path contains {what}, so it is not passed to a provider.", code="invalid_path")


def upstream_path(rule: Rule, raw: bytes, query: bytes) -> str:
    """Return the path and the query for the provider. The part of the path after the pattern stays as it is."""
    path = rule.upstream + raw[len(rule.path) :].decode("latin-1") or "/"
    return f"{path}?{query.decode('latin-1')}" if query else path


def without_credentials(query: bytes) -> tuple[bytes, list[str]]:
    """Return a query without the parameters in `_NOT_SENT`, and the names of those that were removed.

    All other parameters stay as they are.
    """
    if b"=" not in query:
        return query, []
    kept, removed = [], []
    for part in query.split(b"&"):
        name = unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")).decode("latin-1").strip().lower()
        if name in _NOT_SENT:
            removed.append(name)
        else:
            kept.append(part)
    return (b"&".join(kept), removed) if removed else (query, removed)


def callers_address(rule: Rule, address: bytes) -> bytes:
    """Return the gateway's address for an address of the provider, such as that of a `location` header.

    An address outside the rule, such as a signed URL of a file store, stays as it is.
    """
    try:
        url = urlsplit(address.decode("ascii"))
        is_ours = not (url.netloc or url.scheme) or (url.scheme == rule.origin.scheme and _host(url.hostname, url.port, rule.origin))
    except ValueError:
        return address
    if not is_ours or not url.path.startswith(rule.upstream or "/"):
        return address
    rest = url.path[len(rule.upstream) :]
    if rest and not (rule.is_tree and rest.startswith("/")):
        return address
    path = rule.path.decode() + rest
    return (path + (f"?{url.query}" if url.query else "") + (f"#{url.fragment}" if url.fragment else "")).encode("ascii")


def _host(host: str | None, port: int | None, origin: Origin) -> bool:
    return host == origin.host.lower() and (port or _DEFAULT_PORTS.get(origin.scheme)) == origin.port
