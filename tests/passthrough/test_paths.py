"""Raw paths of passed calls: refused paths, the paths that are sent, and addresses in responses."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.load import parse
from gateway.errors import BadRequest
from gateway.passthrough.paths import callers_address, check_path, upstream_path, without_credentials
from gateway.passthrough.rules import Rule
from gateway.runtime.gateway import Gateway
from gateway.telemetry.call_log import CallLog
from tests.support.each import each

YAML = b"""
providers:
  a: { type: openai-compatible, base_url: "https://api.a.test/base/v1", api_key: "${K}" }
  b: { type: openai-compatible, base_url: "https://b.test:8443", api_key: "${K}" }
passthrough:
  "/v1/files/*": a
  "/v1/batches": a
  "/vendor/b/*": { provider: b, path: "/*" }
"""


@cache
def rule(path: str) -> Rule:
    """Return the rule of a path."""
    config = parse(YAML, "g.yaml", environ={"K": "sk-x"})
    rules = Gateway(config, CallLog(2, human=True), lambda line: None).generation.pipeline.passed
    assert rules is not None
    found = rules.find(path.encode())
    assert found is not None
    return found


@each(
    "path",
    [
        "/v1/files/../models", "/v1/files/..", "/v1/files/.", "/v1/files/./x", "/v1/files/%2e%2e/models", "/v1/files/%2E%2e",
        "/v1/files/.%2e/x", "/v1/files/%252e%252e/x", "/v1/files/..%2fmodels", "/v1/files/x%2f..%2f..%2fmodels", "/v1/files/..;/x",
        "/v1/files/..;a=b/x", "/v1/files/%2e%2e%3b/x", "/v1/files//x", "//v1/files", "/v1/files/\\..\\x", "/v1/files/%5c..%5cx",
        "/v1/files/%255c", "/v1/files/%00", "/v1/files/a%0d%0ax", "/v1/files/%zz", "/v1/files/%2", "/v1/files/%20", "/v1/files/a\x7f",
        "/v1/files/%25252525252e",
    ],
)  # fmt: skip
def test_a_path_that_may_mean_another_path_is_refused(path: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_path(path.encode("latin-1"))
    assert caught.value.code == "invalid_path"


@each(
    "path",
    ["/v1/files", "/v1/files/", "/v1/files/a.b..c", "/v1/files/a%2Fb", "/v1/files/..a;x=1", "/v1/files/%C3%A9", "/v1/files/~a@b:c"],
)
def test_an_ordinary_path_is_accepted(path: str) -> None:
    check_path(path.encode())


@given(st.lists(st.sampled_from(["..", ".", "%2e", "%2E", "%252e", "a", "/", "%2f", "%5c", "\\", ";", "%3b", "%25"]), max_size=12))
def test_no_accepted_path_has_a_dot_segment_at_any_level_of_decoding(parts: list[str]) -> None:
    from urllib.parse import unquote

    path = "/v1/files/" + "".join(parts)
    try:
        check_path(path.encode())
    except BadRequest:
        return
    for _ in range(6):
        assert not {".", ".."} & {segment.partition(";")[0] for segment in path.split("/")}
        assert "\\" not in path
        path = unquote(path)


@each(
    ("path", "query", "expected"),
    [
        ("/v1/files", "", "/base/v1/files"),
        ("/v1/files/", "", "/base/v1/files/"),
        ("/v1/files/a%2Fb/content", "x=%20&x=2&=&y", "/base/v1/files/a%2Fb/content?x=%20&x=2&=&y"),
        ("/v1/batches", "limit=1", "/base/v1/batches?limit=1"),
        ("/vendor/b", "", "/"),
        ("/vendor/b/queue/Q", "", "/queue/Q"),
    ],
)
def test_the_rest_of_the_path_and_the_query_stay_as_they_are(path: str, query: str, expected: str) -> None:
    assert upstream_path(rule(path), path.encode(), query.encode()) == expected


@each(
    ("query", "kept", "removed"),
    [
        (b"", b"", []),
        (b"a=1&b", b"a=1&b", []),
        (b"key=s", b"", ["key"]),
        (b"a=1&KEY=s&b=2", b"a=1&b=2", ["key"]),
        (b"api_key=s&%61pi-key=s&access_token=s&x=%26", b"x=%26", ["api_key", "api-key", "access_token"]),
        (b"page_token=x&pageToken=y&keys=1", b"page_token=x&pageToken=y&keys=1", []),
        (b"key", b"key", []),
    ],
)
def test_keys_are_removed_from_the_query(query: bytes, kept: bytes, removed: list[str]) -> None:
    assert without_credentials(query) == (kept, removed)


@each(
    ("pattern", "address", "expected"),
    [
        ("/v1/files", "/base/v1/files/x?a=1#f", "/v1/files/x?a=1#f"),
        ("/v1/files", "https://api.a.test/base/v1/files/x", "/v1/files/x"),
        ("/v1/files", "https://API.a.test:443/base/v1/files", "/v1/files"),
        ("/v1/files", "https://api.a.test/base/v1/filesystem", "https://api.a.test/base/v1/filesystem"),
        ("/v1/files", "https://store.test/signed?sig=1", "https://store.test/signed?sig=1"),
        ("/v1/files", "http://api.a.test/base/v1/files/x", "http://api.a.test/base/v1/files/x"),
        ("/v1/files", "x/y", "x/y"),
        ("/v1/files", "https://[bad", "https://[bad"),
        ("/v1/batches", "/base/v1/batches/1", "/base/v1/batches/1"),
        ("/vendor/b", "https://b.test:8443/queue/1", "/vendor/b/queue/1"),
    ],
)
def test_an_address_of_the_provider_becomes_that_of_the_gateway(pattern: str, address: str, expected: str) -> None:
    assert callers_address(rule(pattern), address.encode()) == expected.encode()
