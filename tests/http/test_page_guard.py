"""The Host and Origin that a listener without keys accepts."""

from __future__ import annotations

import msgspec

from gateway.config.formats import Address
from gateway.config.types import Config
from gateway.http.page_guard import CROSS_SITE, FOREIGN_HOST, MAX_CACHED_HOSTS, PageRules, page_rules
from tests.support.each import each

RULES = PageRules(["Gateway.Internal"], ["https://app.example"])


@each("host", ["localhost", "localhost:80", "LOCALHOST.", "a.localhost", "127.9.9.9:1", "[::1]", "gateway.internal:8"])
def test_loopback_and_configured_names_are_accepted(host: str) -> None:
    assert RULES.check(host.encode(), b"", b"") is None


@each("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost", "0.0.0.0", "[::2]",
                                  "::1", "localhost:80:80", "[localhost", "10.0.0.1", "2130706433", "\xe9"])  # fmt: skip
def test_other_names_are_rejected(host: str) -> None:
    assert RULES.check(host.encode("latin-1"), b"", b"") == FOREIGN_HOST


@each(("origin", "site", "accepted"), [
    ("", "", True), ("", "none", True), ("", "same-origin", True), ("", "same-site", True), ("", "cross-site", False), ("", "new", False),
    ("http://localhost:3000", "same-site", True), ("http://127.0.0.1:3000", "cross-site", True),
    ("https://app.example", "cross-site", True),
    ("https://evil.example", "", False), ("null", "", False), ("https://localhost.evil.example", "", False), ("file://", "", False),
    ("http://evil.example@localhost", "", False), ("https://app.example.evil", "", False),
])  # fmt: skip
def test_an_origin_of_another_site_is_rejected_unless_it_is_configured(origin: str, site: str, accepted: bool) -> None:
    assert RULES.check(b"localhost", origin.encode(), site.encode()) == (None if accepted else CROSS_SITE)


def test_a_request_without_a_host_is_not_from_a_page() -> None:
    assert RULES.check(b"", b"", b"") is None
    assert RULES.check(b"", b"https://evil.example", b"") == CROSS_SITE


def test_many_host_values_take_no_memory() -> None:
    rules = PageRules(())
    for number in range(10 * MAX_CACHED_HOSTS):
        assert rules.check(b"localhost:%d" % number, b"", b"") is None
    assert len(rules._accepted) == MAX_CACHED_HOSTS


def test_rules_follow_the_configuration() -> None:
    config = Config()
    rules = page_rules(config)
    assert rules is not None
    assert rules.check(b"gateway", b"", b"") == FOREIGN_HOST
    assert page_rules(msgspec.structs.replace(config, auth="keys")) is None
    public = msgspec.structs.replace(config, auth="none", listen=Address("0.0.0.0", 8080))
    rules = page_rules(public)
    assert rules is not None
    assert rules.check(b"gateway:8080", b"", b"") is None
    assert rules.check(b"gateway:8080", b"http://gateway", b"same-origin") is None
    assert rules.check(b"gateway:8080", b"https://evil.example", b"") == CROSS_SITE
    rules = page_rules(msgspec.structs.replace(public, hosts=("gateway",)))
    assert rules is not None
    assert rules.check(b"evil.example", b"", b"") == FOREIGN_HOST
