"""Encodings of vectors: a list of numbers, or base64 of little-endian 32-bit floats, as in OpenAI's API."""

from __future__ import annotations

import base64
import math
import sys
from array import array

import msgspec

_decode_floats = msgspec.json.Decoder(list[float]).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


def encode_vector(vector: msgspec.Raw, encoding: str) -> msgspec.Raw:
    """Return a vector in an encoding, unchanged if it has that encoding. Raise ValueError if it cannot be converted to finite numbers."""
    source = bytes(vector).lstrip()
    is_text = source[:1] == b'"'
    if is_text == (encoding == "base64"):
        if not is_text and source[:1] != b"[":
            raise ValueError("a vector is not a list")
        return vector
    if is_text:
        floats = array("f", base64.b64decode(_decode_text(source), validate=True))
        if sys.byteorder == "big":
            floats.byteswap()
        if not all(map(math.isfinite, floats)):
            raise ValueError("a vector has a number that is not finite")
        return msgspec.Raw(_encode(floats.tolist()))
    floats = array("f", _decode_floats(source))
    if not all(map(math.isfinite, floats)):
        raise ValueError("a number does not fit in 32 bits")
    if sys.byteorder == "big":
        floats.byteswap()
    return msgspec.Raw(_encode(base64.b64encode(floats.tobytes()).decode()))
