"""Reads JSON values that are otherwise only copied: their kind, strings, lists of objects."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.messages_api.changes import missing, wrong_type
from gateway.errors import refuse

Fields = dict[str, msgspec.Raw]
"""A JSON object whose values keep their bytes."""

ABSENT = msgspec.Raw(b"")
NULL = msgspec.Raw(b"null")

_decode_text = msgspec.json.Decoder(str).decode
decode_object = msgspec.json.Decoder(Fields).decode
decode_objects = msgspec.json.Decoder(list[Fields]).decode
decode_any = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def is_text(raw: msgspec.Raw) -> bool:
    """Return whether a value is a string."""
    return raw != ABSENT and memoryview(raw)[0] == ord('"')


def is_given(raw: msgspec.Raw) -> bool:
    """Return whether a value is neither absent nor null."""
    return raw not in (NULL, ABSENT)


def text(raw: msgspec.Raw, param: str) -> str:
    """Return a required string."""
    if raw == ABSENT:
        raise missing(param)
    if not is_text(raw):
        raise wrong_type(param, "a string")
    return _decode_text(raw)


def raw_text(raw: msgspec.Raw, param: str) -> msgspec.Raw:
    """Return the bytes of a required string."""
    if not len(raw):
        raise missing(param)
    if not is_text(raw):
        raise wrong_type(param, "a string")
    return raw


def fields(raw: msgspec.Raw, param: str) -> Fields:
    """Return an object."""
    if raw == ABSENT or memoryview(raw)[0] != ord("{"):
        raise wrong_type(param, "an object")
    return decode_object(raw)


def list_of_fields(raw: msgspec.Raw, param: str) -> list[Fields]:
    """Return a list of objects."""
    if raw == ABSENT or memoryview(raw)[0] != ord("["):
        raise wrong_type(param, "a list of objects")
    try:
        return decode_objects(raw)
    except msgspec.ValidationError:
        raise wrong_type(param, "a list of objects") from None


def value(raw: msgspec.Raw, param: str) -> Any:
    """Return a value of any type, decoded."""
    try:
        return decode_any(raw)
    except msgspec.DecodeError as error:
        raise refuse(param, f"'{param}' contains a value that cannot be decoded: {error}.") from None


def is_default(raw: msgspec.Raw, *defaults: bytes) -> bool:
    """Return whether a value is absent, null, or one of `defaults`, which are JSON."""
    return not is_given(raw) or bytes(raw) in defaults
