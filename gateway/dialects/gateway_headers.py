"""What callers ask of the gateway itself in headers, whose every value means something or is refused.

    x-gateway-strict               a boolean: what a target cannot take is refused, not adjusted
    x-gateway-require-parameters   a boolean: targets that would lose a parameter are passed over
    x-gateway-receipt              `body`: the receipt in the answer's body too; `header`: there alone, as without it
"""

from __future__ import annotations

from gateway.call import Call
from gateway.errors import refuse

PREFIX = b"x-gateway-"
_BOOLEANS = {b"true": True, b"1": True, b"?1": True, b"yes": True, b"false": False, b"0": False, b"?0": False, b"no": False}
_RECEIPTS = {b"body": True, b"header": False}


def read_wish(call: Call, name: bytes, value: bytes) -> None:
    """Note on the call what a header that begins with PREFIX asks for; BadRequest for a value that nobody defined."""
    if name == b"x-gateway-strict":
        call.strict = read_flag(name, value)
    elif name == b"x-gateway-receipt":
        call.receipt = _read(name, value, _RECEIPTS, "`body` or `header`")
    elif name == b"x-gateway-require-parameters":
        call.require = read_flag(name, value)


def read_flag(name: bytes, value: bytes) -> bool:
    """A boolean header; BadRequest when it is none."""
    return _read(name, value, _BOOLEANS, "true or false (also 1 or 0, ?1 or ?0, yes or no)")


def _read(name: bytes, value: bytes, known: dict[bytes, bool], accepted: str) -> bool:
    found = known.get(value.strip().lower())
    if found is None:
        shown, param = value[:64].decode("latin-1"), name.decode("latin-1")
        raise refuse(param, f"The header '{param}' is {shown!r}; it takes {accepted}.")
    return found
