"""The `x-gateway-*` request headers. An unknown value is an error.

x-gateway-strict               boolean: reject what a target cannot honour instead of adjusting it
x-gateway-require-parameters   boolean: skip targets that would drop a parameter
x-gateway-receipt              `body`: also put the receipt into the response body; `header`: in the header only (default)
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.errors import refuse

PREFIX = b"x-gateway-"
_BOOLEANS = {
    b"true": True,
    b"1": True,
    b"?1": True,
    b"yes": True,
    b"false": False,
    b"0": False,
    b"?0": False,
    b"no": False,
}
_RECEIPTS = {b"body": True, b"header": False}


class GatewayHeaders(msgspec.Struct):
    """The settings of a call's `x-gateway-*` headers."""

    strict: bool = False
    require_parameters: bool = False
    receipt_in_body: bool = False


def read_gateway_headers(headers: Iterable[tuple[bytes, bytes]]) -> GatewayHeaders:
    """Read the `x-gateway-*` headers of a request. Raise BadRequest for an unknown value."""
    settings = GatewayHeaders()
    for name, value in headers:
        if name == b"x-gateway-strict":
            settings.strict = read_flag(name, value)
        elif name == b"x-gateway-receipt":
            settings.receipt_in_body = _read(name, value, _RECEIPTS, "'body' or 'header'")
        elif name == b"x-gateway-require-parameters":
            settings.require_parameters = read_flag(name, value)
    return settings


def read_flag(name: bytes, value: bytes) -> bool:
    """Read a boolean header. Raise BadRequest for any other value."""
    return _read(name, value, _BOOLEANS, "true or false (or 1, 0, ?1, ?0, yes, no)")


def _read(name: bytes, value: bytes, known: dict[bytes, bool], accepted: str) -> bool:
    setting = known.get(value.strip().lower())
    if setting is None:
        shown, param = value[:64].decode("latin-1"), name.decode("latin-1")
        raise refuse(param, f"Header '{param}' must be {accepted}, not {shown!r}.")
    return setting
