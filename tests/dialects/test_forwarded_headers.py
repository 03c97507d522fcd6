"""Headers of a caller are forwarded if the provider's table has them, and are otherwise reported, or refused in strict mode."""

from __future__ import annotations

import pytest

import providers
from gateway.dialects.forwarded_headers import MAX_HEADER_CHARS, forward_headers
from gateway.dialects.request_headers import CallerHeaders, known_headers, read_headers
from providers.base import Adjustment, Body, Options, Refusal, Target
from providers.rules.request_headers import CALLER_HEADERS, MERGED, NOT_REPORTED, NUMBERS, VENDOR_HEADERS
from tests.support.each import each

KINDS = sorted(providers.OURS)
CREDENTIALS = ("authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "set-cookie")


def target(kind: str, forward: frozenset[str] = frozenset(), headers: tuple[tuple[str, str], ...] = (), **options: str) -> Target:
    base_url = providers.get(kind).default_base_url or "http://server/v1"
    return Target("up/m", "up", providers.get(kind), "m", base_url, "k", None, options, headers, forward)


def body() -> Body:
    return Body(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')


def headers(**more: str) -> CallerHeaders:
    lines = [(name.replace("__", "-").encode(), value.encode()) for name, value in more.items()]
    found = read_headers(lines, known_headers(["x-tenant"]))
    assert found is not None
    return found


def value_of(name: str) -> str:
    return "1" if name in NUMBERS else "fast" if name == "x-siati-tier" else "v-1"


def sent(kind: str, found: CallerHeaders, at: Target | None = None) -> tuple[dict[str, str], list[Adjustment]]:
    """Return the headers of the request, and the adjustments, in lenient mode."""
    at = at or target(kind)
    request_body = body()
    adjustments = forward_headers(found, at, request_body, strict=False)
    return dict(at.kind.encode(request_body, at, Options()).headers), adjustments


@each("kind", KINDS)
@each("name", sorted(VENDOR_HEADERS))
def test_a_vendors_header_is_forwarded_or_reported_and_refused_in_strict_mode(kind: str, name: str) -> None:
    found = headers(**{name: value_of(name)})
    received, adjustments = sent(kind, found)
    if name in CALLER_HEADERS.get(kind, ()):
        assert received[name] == value_of(name)
        assert adjustments == []
        assert forward_headers(found, target(kind), body(), strict=True) == []
        return
    assert value_of(name) not in received.values()
    if name in NOT_REPORTED:
        assert adjustments == []
        assert forward_headers(found, target(kind), body(), strict=True) == []
        return
    assert [(one.param, one.action) for one in adjustments] == [(name, "drop")]
    with pytest.raises(Refusal, match=f"'{name}' cannot be forwarded") as refused:
        forward_headers(found, target(kind), body(), strict=True)
    assert refused.value.param == name


def test_no_table_has_a_credential() -> None:
    assert not {name for names in CALLER_HEADERS.values() for name in names} & set(CREDENTIALS)
    assert all(name == name.lower() for name in VENDOR_HEADERS)
    assert read_headers([(name.encode(), b"secret") for name in CREDENTIALS], known_headers()) is None


def test_the_configuration_forwards_more_headers() -> None:
    found = headers(x__tenant="t1")
    assert [(one.param, one.action) for one in sent("openai", found)[1]] == [("x-tenant", "drop")]
    received, adjustments = sent("openai", found, target("openai", frozenset({"x-tenant"})))
    assert (received["x-tenant"], adjustments) == ("t1", [])


@pytest.mark.parametrize(("value", "reported"), [("org-operator", False), ("org-caller", True)])
def test_a_header_of_the_configuration_is_not_replaced(value: str, reported: bool) -> None:
    at = target("openai", headers=(("openai-organization", "org-operator"),))
    found = headers(openai__organization=value)
    received, adjustments = sent("openai", found, at)
    assert received["openai-organization"] == "org-operator"
    assert [one.param for one in adjustments] == (["openai-organization"] if reported else [])
    assert len(at.kind.encode(body(), at, Options()).headers) == len(dict(at.kind.encode(body(), at, Options()).headers))


def test_a_workspace_of_the_configuration_is_not_replaced_and_a_default_team_is() -> None:
    received, adjustments = sent("anthropic", headers(anthropic__workspace__id="w2"), target("anthropic", workspace="w1"))
    assert (received["anthropic-workspace-id"], [one.param for one in adjustments]) == ("w1", ["anthropic-workspace-id"])
    received, adjustments = sent("friendli", headers(x__friendli__team="t2"), target("friendli", team="t1"))
    assert (received["x-friendli-team"], adjustments) == ("t2", [])


def test_lists_of_the_configuration_and_of_the_caller_are_joined() -> None:
    found = headers(anthropic__beta="one, context-1m-2025-08-07 ,two")
    received, adjustments = sent("anthropic", found, target("anthropic", anthropic_beta="context-1m-2025-08-07,zero"))
    assert (received["anthropic-beta"], adjustments) == ("context-1m-2025-08-07,zero,one,two", [])
    assert "anthropic-beta" in MERGED


def test_a_parameter_of_the_request_goes_before_the_header() -> None:
    request_body = body()
    request_body.headers["x-delay-time"] = "2"
    found = headers(**{"x-delay-time": "3"})
    assert [one.param for one in forward_headers(found, target("cerebras"), request_body, strict=False)] == ["x-delay-time"]
    assert request_body.headers["x-delay-time"] == "2"


@pytest.mark.parametrize(("kind", "name", "value"), [
    ("siati", "x-siati-tier", "warp"), ("openai", "openai-project", ""), ("anthropic", "anthropic-beta", "x" * (MAX_HEADER_CHARS + 1)),
])  # fmt: skip
def test_a_value_that_cannot_be_sent_is_reported(kind: str, name: str, value: str) -> None:
    received, adjustments = sent(kind, headers(**{name: value}))
    assert (name in received, [one.param for one in adjustments]) == (False, [name])


@each("kind", KINDS)
@each("name", ["openai-foo", "anthropic-foo"])
def test_an_unknown_header_of_a_vendor_is_reported_and_refused_in_strict_mode(kind: str, name: str) -> None:
    found = headers(**{name: "1"})
    received, adjustments = sent(kind, found)
    assert name not in received
    assert [(one.param, one.action) for one in adjustments] == [(name, "drop")]
    with pytest.raises(Refusal, match="'forward_headers' of up can forward it"):
        forward_headers(found, target(kind), body(), strict=True)
    assert sent(kind, found, target(kind, frozenset({name}))) == ({**received, name: "1"}, [])
