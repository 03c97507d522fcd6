"""The x-gateway-* request headers: accepted values, and errors for all others."""

from __future__ import annotations

import pytest

from gateway.dialects.gateway_headers import GatewayHeaders, read_flag, read_gateway_headers
from gateway.errors import BadRequest
from tests.support.each import each


def test_without_gateway_headers_nothing_is_set() -> None:
    assert read_gateway_headers([(b"authorization", b"Bearer x"), (b"x-request-id", b"1")]) == GatewayHeaders()


@each("value", [b"true", b"TRUE", b" true ", b"1", b"?1", b"yes"])
def test_flags_accept_several_words_for_true(value: bytes) -> None:
    headers = [(b"x-gateway-strict", value), (b"x-gateway-require-parameters", value)]
    assert read_gateway_headers(headers) == GatewayHeaders(strict=True, require_parameters=True)


@each("value", [b"false", b"0", b"?0", b"no"])
def test_flags_accept_several_words_for_false(value: bytes) -> None:
    assert read_flag(b"x-gateway-strict", value) is False


def test_the_receipt_is_in_the_body_only_on_request() -> None:
    assert read_gateway_headers([(b"x-gateway-receipt", b"body")]).receipt_in_body
    assert not read_gateway_headers([(b"x-gateway-receipt", b"header")]).receipt_in_body


def test_of_a_repeated_header_the_last_value_applies() -> None:
    assert not read_gateway_headers([(b"x-gateway-strict", b"true"), (b"x-gateway-strict", b"false")]).strict


@each(
    ("name", "value", "message"),
    [
        (b"x-gateway-strict", b"maybe", "Header 'x-gateway-strict' must be true or false (or 1, 0, ?1, ?0, yes, no), not 'maybe'."),
        (b"x-gateway-require-parameters", b"", "Header 'x-gateway-require-parameters' must be true or false"),
        (b"x-gateway-receipt", b"footer", "Header 'x-gateway-receipt' must be 'body' or 'header', not 'footer'."),
        (b"x-gateway-receipt", b"\xff" * 500, "Header 'x-gateway-receipt' must be 'body' or 'header'"),
    ],
)
def test_other_values_are_rejected_by_name(name: bytes, value: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_gateway_headers([(name, value)])
    assert caught.value.message.startswith(message)
    assert caught.value.param == name.decode()
    assert len(caught.value.message) < 500


@each(
    ("name", "meant"),
    [
        ("x-gateway-strickt", "x-gateway-strict"),
        ("x-gateway-Strict".lower() + "-mode", "x-gateway-strict"),
        ("x-gateway-reciept", "x-gateway-receipt"),
        ("x-gateway-require_parameters", "x-gateway-require-parameters"),
        ("x-gateway-require-parameter", "x-gateway-require-parameters"),
        ("x-gateway-requires-params", "x-gateway-require-parameters"),
    ],
)
def test_a_misspelt_name_is_rejected_with_a_suggestion(name: str, meant: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_gateway_headers([(name.encode(), b"true")])
    assert caught.value.message == f"Unknown header '{name}'. Did you mean '{meant}'?"
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, name, "unknown_parameter")


@each("name", [b"x-gateway-foo", b"x-gateway-", b"x-gateway-\xff", b"x-gateway-" + b"z" * 9000])
def test_an_unknown_name_is_rejected_with_the_known_ones(name: bytes) -> None:
    with pytest.raises(BadRequest, match="Known headers: x-gateway-strict, x-gateway-require-parameters, x-gateway-receipt") as caught:
        read_gateway_headers([(b"x-gateway-strict", b"true"), (name, b"1")])
    assert len(caught.value.message) < 300


def test_a_name_that_the_configuration_uses_is_not_unknown() -> None:
    assert read_gateway_headers([(b"x-gateway-session", b"1")], {b"x-gateway-session"}) == GatewayHeaders()
