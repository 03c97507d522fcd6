"""The headers of passed calls.

In requests, credentials are replaced. Headers of the connection, of proxies, of browsers and of the gateway itself are removed, and so
are headers by which a call could leave its pattern. In responses, headers of the connection and headers that would apply to the
gateway's own host are removed. All other headers are kept, unless the configuration or the gateway sets one of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.config.formats import UNFORWARDABLE
from gateway.errors import Headers
from gateway.passthrough.paths import callers_address
from gateway.passthrough.rules import Rule
from providers.base import Target

CREDENTIALS = frozenset({
    "api-key", "authorization", "cookie", "cookie2", "ocp-apim-subscription-key", "proxy-authorization", "x-amz-security-token",
    "x-api-key", "x-auth-token", "x-goog-api-key",
})  # fmt: skip
HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "trailers",
    "transfer-encoding", "upgrade", "http2-settings",
})  # fmt: skip
"""Headers that apply to one connection (RFC 9110, section 7.6.1), in addition to those that `connection` names."""
OVERRIDES = frozenset({"x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"})
"""Headers that name another method or path, by which a call could leave its pattern.

Source: cloud.google.com/apis/docs/system-parameters.
"""
_CLIENT_ADDRESSES = frozenset({"cf-connecting-ip", "true-client-ip", "x-client-ip", "x-real-ip"})
_NOT_SENT = (
    UNFORWARDABLE | HOP_BY_HOP | CREDENTIALS | OVERRIDES | _CLIENT_ADDRESSES | {"content-length"}
) - {"accept", "user-agent"}
_NOT_SENT_PREFIXES = ("proxy-", "x-forwarded-", "x-gateway-", "sec-")
_OF_A_SPAN = frozenset({"traceparent", "tracestate"})
_NOT_RETURNED = frozenset({"alt-svc", "clear-site-data", "date", "nel", "report-to", "set-cookie", "strict-transport-security"})
"""Response headers that would apply to the gateway's own host, or that the gateway sends itself."""
_ADDRESSES = frozenset({b"location", b"content-location"})


def request_headers(headers: Headers, target: Target, *, is_traced: bool) -> list[tuple[str, str]]:
    """Return the headers for the provider, with its credential instead of the caller's.

    Headers that the configuration sets replace the caller's. If the call is traced, its trace context is added later.
    """
    kept = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    refused = _named_by_connection(kept) | _NOT_SENT | (_OF_A_SPAN if is_traced else frozenset())
    kept = [(name, value) for name, value in kept if name not in refused and not name.startswith(_NOT_SENT_PREFIXES)]
    sent = {name for name, _ in kept}
    configured = {name.lower() for name, _ in target.headers}
    ours = [
        (name, value)
        for name, value in target.kind.probe_headers(target)
        if name in CREDENTIALS or name in configured or name not in sent
    ]
    replaced = {name for name, _ in ours}
    return [*((name, value) for name, value in kept if name not in replaced), *ours]


def response_headers(headers: Sequence[tuple[bytes, bytes]], own: Headers, rule: Rule) -> list[tuple[bytes, bytes]]:
    """Return the provider's headers that may be passed on, and those of the gateway.

    If both have a header of the same name, the provider's value is kept as `x-upstream-...`. An address of the provider
    that the rule covers is replaced by the gateway's address for it.
    """
    ours = {name for name, _ in own}
    refused = _named_by_connection((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers) | HOP_BY_HOP
    found = list(own)
    for name, value in headers:
        text = name.decode("latin-1")
        if text in refused or text in _NOT_RETURNED or text.startswith("access-control-"):
            continue
        if name in _ADDRESSES:
            value = callers_address(rule, value)
        found.append((b"x-upstream-" + name.removeprefix(b"x-"), value) if name in ours else (name, value))
    return found


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Return the names of the headers that `connection` lists, except `content-length` and `content-type`.

    These headers apply to one connection.
    """
    values = [value for name, value in headers if name == "connection"]
    return frozenset(part.strip().lower() for value in values for part in value.split(",")) - {"content-length", "content-type"}
