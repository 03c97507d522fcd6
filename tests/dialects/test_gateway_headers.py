"""The x-gateway-* request headers: accepted values, and errors for all others."""

from __future__ import annotations

import pytest

from gateway.dialects.gateway_headers import GatewayHeaders, read_flag, read_gateway_headers
from gateway.errors import BadRequest


def test_without_gateway_headers_nothing_is_set() -> None:
    assert read_gateway_headers([(b"authorization", b"Bearer x"), (b"x-request-id", b"1")]) == GatewayHeaders()


@pytest.mark.parametrize("value", [b"true", b"TRUE", b" true ", b"1", b"?1", b"yes"])
def test_flags_accept_several_words_for_true(value: bytes) -> None:
    headers = [(b"x-gateway-strict", value), (b"x-gateway-require-parameters", value)]
    assert read_gateway_headers(headers) == GatewayHeaders(strict=True, require_parameters=True)


@pytest.mark.parametrize("value", [b"false", b"0", b"?0", b"no"])
def test_flags_accept_several_words_for_false(value: bytes) -> None:
    assert read_flag(b"x-gateway-strict", value) is False


def test_the_receipt_is_in_the_body_only_on_request() -> None:
    assert read_gateway_headers([(b"x-gateway-receipt", b"body")]).receipt_in_body
    assert not read_gateway_headers([(b"x-gateway-receipt", b"header")]).receipt_in_body


def test_of_a_repeated_header_the_last_value_applies() -> None:
    assert not read_gateway_headers([(b"x-gateway-strict", b"true"), (b"x-gateway-strict", b"false")]).strict


@pytest.mark.parametrize(
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
