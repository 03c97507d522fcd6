"""The headers of passed calls in both directions."""

from __future__ import annotations

from gateway.passthrough.headers import CREDENTIALS, request_headers, response_headers
from providers import get
from providers.base import Target
from tests.passthrough.test_paths import rule
from tests.support.each import each

CALLERS = [(name.encode(), b"lg-callers-key") for name in sorted(CREDENTIALS)]


def target(kind: str, *headers: tuple[str, str], **options: str) -> Target:
    """Return a target of a provider type."""
    return Target("p/x", "p", get(kind), "x", "https://p.test/v1", "sk-theirs", headers=headers, options=options)


def sent(headers: list[tuple[bytes, bytes]], to: Target, *, is_traced: bool = False) -> list[tuple[str, str]]:
    """Return the headers for a target."""
    return request_headers(headers, to, is_traced=is_traced)


@each(
    ("to", "expected"),
    [
        (target("openai"), [("authorization", "Bearer sk-theirs")]),
        (target("anthropic", anthropic_version="2023-06-01"), [("x-api-key", "sk-theirs")]),
        (target("azure"), [("api-key", "sk-theirs")]),
        (target("azure", auth="bearer"), [("authorization", "Bearer sk-theirs")]),
        (target("gemini"), [("authorization", "Bearer sk-theirs")]),
        (target("cohere"), [("authorization", "Bearer sk-theirs")]),
        (target("openai-compatible", ("Authorization", "Key fal")), [("authorization", "Key fal")]),
    ],
)
def test_every_credential_of_the_caller_is_replaced_by_that_of_the_provider(to: Target, expected: list[tuple[str, str]]) -> None:
    headers = sent(CALLERS, to)
    assert [(name, value) for name, value in headers if name in CREDENTIALS] == expected
    assert "lg-callers-key" not in str(headers)


def test_headers_of_the_connection_and_of_proxies_are_not_sent() -> None:
    dropped = [
        (b"host", b"x"), (b"connection", b"keep-alive, X-Hop"), (b"x-hop", b"1"), (b"keep-alive", b"1"), (b"te", b"trailers"),
        (b"trailer", b"x-t"), (b"transfer-encoding", b"chunked"), (b"content-length", b"5"), (b"upgrade", b"h2c"),
        (b"expect", b"100-continue"),
        (b"proxy-x", b"1"), (b"x-forwarded-for", b"10.0.0.1"), (b"forwarded", b"for=x"), (b"via", b"1.1 x"),
        (b"x-gateway-receipt", b"body"),
        (b"origin", b"https://x"), (b"referer", b"https://x"), (b"sec-fetch-site", b"none"), (b"http2-settings", b"x"),
    ]  # fmt: skip
    kept = [(b"content-type", b"multipart/form-data; boundary=x"), (b"range", b"bytes=0-1"), (b"if-none-match", b'"e"')]
    kept += [(b"x-a", b"1"), (b"x-a", b"\xe9")]
    names = [name for name, _ in sent([*dropped, *kept], target("openai"))]
    assert names == ["content-type", "range", "if-none-match", "x-a", "x-a", "user-agent", "authorization"]


def test_settings_of_the_operator_replace_the_callers_headers_and_defaults_do_not() -> None:
    headers = [(b"openai-organization", b"theirs"), (b"user-agent", b"app/1"), (b"anthropic-version", b"2099-01-01")]
    org = dict(sent(headers, target("openai", ("OpenAI-Organization", "ours"))))
    assert (org["openai-organization"], org["user-agent"]) == ("ours", "app/1")
    assert dict(sent(headers, target("anthropic")))["anthropic-version"] == "2099-01-01"
    assert "anthropic-version" in dict(sent([], target("anthropic")))


def test_a_traced_call_sends_its_own_trace_context() -> None:
    headers = [(b"traceparent", b"00-a-b-01"), (b"tracestate", b"x=1"), (b"baggage", b"k=v")]
    assert {name for name, _ in sent(headers, target("openai"), is_traced=True)} == {"baggage", "user-agent", "authorization"}
    assert ("traceparent", "00-a-b-01") in sent(headers, target("openai"))


def test_the_providers_response_headers_are_kept() -> None:
    theirs = [
        (b"content-type", b"audio/mpeg"), (b"content-length", b"3"), (b"content-disposition", b"attachment"), (b"etag", b'"e"'),
        (b"content-range", b"bytes 0-2/9"), (b"accept-ranges", b"bytes"), (b"x-ratelimit-limit-requests", b"9"), (b"retry-after", b"3"),
        (b"x-request-id", b"req-theirs"), (b"location", b"/base/v1/files/1"), (b"content-encoding", b"gzip"),
    ]  # fmt: skip
    dropped = [
        (b"connection", b"close, x-hop"), (b"x-hop", b"1"), (b"transfer-encoding", b"chunked"), (b"set-cookie", b"a=b"), (b"date", b"x"),
        (b"strict-transport-security", b"x"), (b"alt-svc", b"h3"), (b"access-control-allow-origin", b"*"), (b"proxy-authenticate", b"x"),
    ]  # fmt: skip
    found = response_headers([*theirs, *dropped], [(b"x-request-id", b"req_ours")], rule("/v1/files"))
    expected = [header for header in theirs if header[0] not in (b"x-request-id", b"location")]
    assert sorted(found) == sorted([
        *expected, (b"x-request-id", b"req_ours"), (b"x-upstream-request-id", b"req-theirs"), (b"location", b"/v1/files/1"),
    ])  # fmt: skip
