"""A caller's request as a Call: the fields that headers, body and configuration set."""

from __future__ import annotations

import pytest

from gateway.attempts.read_request import headers_known_to, read_parameters, read_request
from gateway.call import Call
from gateway.config.load import parse
from gateway.dialects.request_headers import known_headers
from gateway.errors import BadRequest

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stop":"x","timeout_microseconds":2000000}'


def read(*headers: tuple[bytes, bytes], strict: bool = False) -> Call:
    call = Call("chat", "/v1/chat/completions")
    read_request(call, headers, BODY, known_headers(), strict=strict)
    read_parameters(call)
    return call


def test_parameters_of_the_gateway_are_read_from_the_body() -> None:
    call = read()
    assert (call.model, call.stream, call.stops, call.deadline, call.body_bytes) == ("m", True, ("x",), 2.0, len(BODY))
    assert (call.headers, call.strict, call.wants_receipt, call.client_id) == (None, False, False, None)


def test_headers_of_the_gateway_are_read() -> None:
    call = read((b"x-gateway-receipt", b"body"), (b"x-request-id", b"mine"), (b"x-gateway-require-parameters", b"1"))
    assert (call.wants_receipt, call.client_id, call.requires_parameters, call.strict) == (True, "mine", True, False)


def test_the_configuration_is_strict_whatever_the_header_says() -> None:
    assert read((b"x-gateway-strict", b"false"), strict=True).strict


def test_an_unknown_header_of_the_gateway_is_an_error() -> None:
    with pytest.raises(BadRequest, match="Did you mean 'x-gateway-strict'"):
        read((b"x-gateway-strickt", b"true"))


def test_the_configuration_names_more_headers() -> None:
    yaml = b"""
providers: { up: { type: vllm, base_url: "http://127.0.0.1:9/v1", forward_headers: [X-Tenant] } }
models: { m: { targets: { up/a: 1, up/b: 1 }, balance: session, session_header: X-Gateway-Session } }
"""
    known = headers_known_to(parse(yaml, "gateway.yaml"))
    assert {b"x-tenant", b"x-data-parallel-rank", b"openai-organization"} <= known.names
    call = Call("chat", "/v1/chat/completions")
    read_request(call, [(b"x-gateway-session", b"s"), (b"x-tenant", b"t")], BODY, known, strict=False)
    assert call.headers is not None
    assert call.headers.vendor == {"x-tenant": "t"}
