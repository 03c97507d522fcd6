"""Reading of single JSON values, with an error that names the caller's parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.errors import BadRequest, refuse

Raw = msgspec.Raw

ABSENT: Final = Raw(b"")
NULL: Final = Raw(b"null")
_QUOTE = ord('"')

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode


def is_absent(raw: Raw) -> bool:
    """Return whether a value is absent or null."""
    return raw in (NULL, ABSENT)


def is_string(raw: Raw) -> bool:
    """Return whether a value is a string."""
    return raw != ABSENT and memoryview(raw)[0] == _QUOTE


def wrong_type(param: str, what: str) -> BadRequest:
    """Return a 400 for a value of the wrong type."""
    return refuse(param, f"'{param}' must be {what}.", "invalid_type")


def text(param: str, raw: Raw) -> str:
    """Return a string."""
    try:
        return _decode_text(raw)
    except msgspec.DecodeError:
        raise _missing_or_wrong(param, raw, "a string") from None


def string(param: str, raw: Raw) -> Raw:
    """Return the bytes of a string."""
    if not is_string(raw):
        raise _missing_or_wrong(param, raw, "a string")
    return raw


def fields(param: str, raw: Raw) -> dict[str, Raw]:
    """Return the members of an object."""
    try:
        return _decode_fields(raw)
    except msgspec.DecodeError:
        raise _missing_or_wrong(param, raw, "an object") from None


def objects(param: str, raw: Raw) -> list[dict[str, Raw]]:
    """Return the members of each object in a list."""
    try:
        return _decode_objects(raw)
    except msgspec.DecodeError:
        return [fields(f"{param}[{index}]", item) for index, item in enumerate(elements(param, raw))]


def elements(param: str, raw: Raw) -> list[Raw]:
    """Return the elements of a list."""
    try:
        return _decode_list(raw)
    except msgspec.DecodeError:
        raise _missing_or_wrong(param, raw, "a list") from None


def value(param: str, raw: Raw) -> Any:
    """Return a value of any type."""
    try:
        return decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise refuse(param, f"'{param}' contains a value that cannot be decoded: {error}.") from None


def choice(param: str, raw: Raw, allowed: tuple[str, ...]) -> str:
    """Return a string that must be one of `allowed`."""
    given = text(param, raw)
    if given not in allowed:
        raise refuse(param, f"'{param}' must be one of {', '.join(allowed)}, not '{given[:40]}'.")
    return given


def others(source: Mapping[str, Raw], known: frozenset[str]) -> dict[str, Raw]:
    """Return the members that are neither known nor null."""
    if source.keys() <= known:
        return {}
    return {name: raw for name, raw in source.items() if name not in known and not is_absent(raw)}


def _missing_or_wrong(param: str, raw: Raw, what: str) -> BadRequest:
    if len(raw) == 0:
        return refuse(param, f"'{param}' is required.", "missing_required_parameter")
    return wrong_type(param, what)
