"""The documented headers are those that the gateway reads and sends."""

from __future__ import annotations

import pytest

from gateway.dialects.credential_headers import CREDENTIAL_PREFIX
from gateway.dialects.gateway_headers import NAMES, read_gateway_headers
from gateway.errors import BadRequest
from gateway.openapi.headers import REQUEST, RESPONSE, components, parameters
from gateway.server.app import EXPOSED_HEADERS
from tests.support.each import each

VALUES = ("true", "false", "1", "0", "?1", "?0", "yes", "no", "body", "header", "", "2", "maybe")


def test_every_header_of_the_gateway_is_documented() -> None:
    credential = f"{CREDENTIAL_PREFIX}PROVIDER"
    assert {name for name in REQUEST if name.startswith("x-gateway-")} == {*NAMES, credential}
    assert set(EXPOSED_HEADERS) - set(RESPONSE) == set()
    assert set(components()) == set(RESPONSE)
    assert set(parameters()) == set(REQUEST)


@each("name", [name for name in NAMES if "enum" in REQUEST[name][0]])
def test_documented_values_are_those_that_are_accepted(name: str) -> None:
    documented = set(REQUEST[name][0]["enum"])
    for value in VALUES:
        sent = [(name.encode(), value.encode())]
        if value in documented:
            read_gateway_headers(sent)
        else:
            with pytest.raises(BadRequest):
                read_gateway_headers(sent)
    assert documented <= set(VALUES)
