"""The `x-gateway-*` request headers. An unknown name or value is an error.

x-gateway-strict               boolean: reject what a target cannot honour instead of adjusting it
x-gateway-require-parameters   boolean: skip targets that would drop or change a parameter
x-gateway-tags                 names of `tags` in the configuration, separated by commas, by which usage is added up
x-gateway-credential-PROVIDER  the caller's own credential for a provider
x-gateway-receipt              `body`: also put the receipt into the response body; `header`: in the header only (default)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

import msgspec

from gateway.config.secret import Secret
from gateway.dialects.credential_headers import CREDENTIAL_PREFIX, is_credential_header, read_credentials
from gateway.dialects.tags import read_tags
from gateway.errors import BadRequest, refuse

PREFIX = b"x-gateway-"
MARKS = (PREFIX[:9], b"x_gateway")
"""The beginnings of names that may have the prefix, also with `_` in place of `-`, which is refused as a misspelling."""
BOOLEANS = {
    b"true": True,
    b"1": True,
    b"?1": True,
    b"yes": True,
    b"false": False,
    b"0": False,
    b"?0": False,
    b"no": False,
}
RECEIPTS = {b"body": True, b"header": False}
NAMES = ("x-gateway-strict", "x-gateway-require-parameters", "x-gateway-receipt", "x-gateway-tags")
MAX_SHOWN_BYTES = 64


class GatewayHeaders(msgspec.Struct):
    """The settings of a call's `x-gateway-*` headers."""

    strict: bool = False
    require_parameters: bool = False
    receipt_in_body: bool = False
    tags: tuple[str, ...] = ()
    credentials: dict[str, Secret] = {}
    """Credentials that the caller brings, by the name of the provider."""


def read_gateway_headers(
    headers: Sequence[tuple[bytes, bytes]], configured: Collection[bytes] = (), tags: Collection[str] = ()
) -> GatewayHeaders:
    """Read the `x-gateway-*` headers of a request. Raise BadRequest for an unknown name or value.

    `configured` are names that the configuration uses, such as a `session_header`. `tags` are the tags that the configuration declares.
    """
    settings = GatewayHeaders()
    for name, value in headers:
        if name == b"x-gateway-strict":
            settings.strict = read_flag(name, value)
        elif name == b"x-gateway-receipt":
            settings.receipt_in_body = _read(name, value, RECEIPTS, "'body' or 'header'")
        elif name == b"x-gateway-tags":
            settings.tags = read_tags(value, tags, settings.tags)
        elif name == b"x-gateway-require-parameters":
            settings.require_parameters = read_flag(name, value)
        elif is_credential_header(name):
            settings.credentials = read_credentials(headers)
        elif name.replace(b"_", b"-").startswith(PREFIX) and name not in configured:
            raise _unknown(name)
    return settings


def _unknown(name: bytes) -> BadRequest:
    """Return the error for an unknown header with the gateway's prefix.

    The message of the error suggests the nearest known name or lists all known names.
    """
    param = name[:MAX_SHOWN_BYTES].decode("latin-1")
    prefix = PREFIX.decode()
    own = {known.removeprefix(prefix): known for known in NAMES}
    near = get_close_matches(param.replace("_", "-").removeprefix(prefix), own, n=1)
    hint = f"Did you mean '{own[near[0]]}'?" if near else f"Known headers: {', '.join(NAMES)}, {CREDENTIAL_PREFIX}PROVIDER."
    return BadRequest(f"Unknown header '{param}'. {hint}", param=param, code="unknown_parameter")


def read_flag(name: bytes, value: bytes) -> bool:
    """Read a boolean header. Raise BadRequest if the value is not a boolean."""
    return _read(name, value, BOOLEANS, "true or false (or 1, 0, ?1, ?0, yes, no)")


def _read(name: bytes, value: bytes, known: dict[bytes, bool], accepted: str) -> bool:
    setting = known.get(value.strip().lower())
    if setting is None:
        shown, param = value[:MAX_SHOWN_BYTES].decode("latin-1"), name.decode("latin-1")
        raise refuse(param, f"Header '{param}' must be {accepted}, not {shown!r}.")
    return setting
