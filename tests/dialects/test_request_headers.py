"""The request headers that the gateway uses: finding them, joining repeated ones, and rejecting invalid ones."""

from __future__ import annotations

import pytest

from gateway.dialects.request_headers import KnownHeaders, known_headers, read_headers
from gateway.errors import BadRequest
from tests.support.calls import calls_of
from tests.support.each import each

KNOWN = known_headers(["x-tenant"], ["X-Conversation", "x-gateway-session"])
ORDINARY = [
    (b"host", b"gateway:8080"), (b"accept", b"application/json"), (b"content-type", b"application/json"), (b"content-length", b"99"),
    (b"authorization", b"Bearer lg-1"), (b"user-agent", b"OpenAI/Python 3.52.0"), (b"x-stainless-lang", b"python"),
    (b"accept-encoding", b"gzip"),
    (b"x-stainless-os", b"Linux"), (b"x-stainless-retry-count", b"0"), (b"connection", b"keep-alive"), (b"cookie", b"a=b"),
]  # fmt: skip


def test_an_ordinary_head_has_none() -> None:
    assert read_headers(ORDINARY, KNOWN) is None


def test_reading_an_ordinary_head_calls_no_function_for_a_header() -> None:
    assert calls_of(lambda: read_headers(ORDINARY * 10, KNOWN)) == calls_of(lambda: read_headers(ORDINARY[:1], KNOWN))


def test_each_header_is_found_in_its_place() -> None:
    found = read_headers(
        [
            (b"x-request-id", b"mine"),
            (b"traceparent", b"00-1-2-01"),
            (b"baggage", b"a=1"),
            (b"anthropic-beta", b"one"),
            (b"anthropic-beta", b"two"),
            (b"x-tenant", b"t"),
            (b"x-conversation", b"c"),
            (b"x-gateway-session", b"s"),
            (b"x-gateway-strict", b"1"),
        ],
        KNOWN,
    )
    assert found is not None
    assert found.request_id == b"mine"
    assert found.trace == [("traceparent", "00-1-2-01"), ("baggage", "a=1")]
    assert found.vendor == {"anthropic-beta": "one,two", "x-tenant": "t"}
    assert found.gateway.strict


def test_a_vendor_header_that_names_the_session_is_used_by_the_gateway() -> None:
    found = read_headers([(b"x-session-affinity", b"s")], known_headers(session=["X-Session-Affinity"]))
    assert found is not None
    assert found.used == {"x-session-affinity"}


@each("name", [b"x-delay-time", b"queue_threshold", b"x-data-parallel-rank"])
@each("value", [b"abc", b"", b"1;2", b"nan", b"1e9", b"0x10"])
def test_a_header_with_a_number_takes_only_a_number(name: bytes, value: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        read_headers([(name, value)], KNOWN)
    assert (refused.value.param, "must be a number" in refused.value.message) == (name.decode(), True)
    assert read_headers([(name, b" 0.5 ")], KNOWN) is not None


@each("name", [b"x_gateway_strict", b"x-gateway_strict", b"x_gateway-strict"])
def test_a_name_with_underscores_is_a_misspelling(name: bytes) -> None:
    with pytest.raises(BadRequest, match="Did you mean 'x-gateway-strict'") as caught:
        read_headers([*ORDINARY, (name, b"true")], KNOWN)
    assert caught.value.param == name.decode()


@each("name", [b"x-gateway", b"x-gatewayed", b"x_gateway"])
def test_a_name_that_only_begins_alike_is_not_the_gateways(name: bytes) -> None:
    read_headers([*ORDINARY, (name, b"true")], KNOWN)


def test_an_unknown_header_with_the_prefix_of_a_vendor_is_found() -> None:
    found = read_headers([*ORDINARY, (b"openai-foo", b"1"), (b"anthropic-foo", b"2"), (b"x-grok-foo", b"3")], KNOWN)
    assert found is not None
    assert found.vendor == {"openai-foo": "1", "anthropic-foo": "2", "x-grok-foo": "3"}


@each("name", [
    b"opener", b"anthrax", b"x-groups", b"anthropic-dangerous-direct-browser-access", b"x-openai-memgen-request", b"x-goog-api-client",
])  # fmt: skip
def test_a_header_that_only_begins_alike_or_has_no_effect_is_not_found(name: bytes) -> None:
    assert read_headers([*ORDINARY, (name, b"1")], KNOWN) is None


@each("known", [known_headers(session=["OpenAI-Conversation"]), known_headers(end_user="OpenAI-Conversation")])
def test_a_header_with_a_prefix_that_the_configuration_names_is_used_by_the_gateway(known: KnownHeaders) -> None:
    found = read_headers([(b"openai-conversation", b"c")], known)
    assert found is not None
    assert found.used == {"openai-conversation"}
