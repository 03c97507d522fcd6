"""Translates OpenAI's error object to Cohere's: an object with `id`, `message` and, if present, `gateway`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def translate_error(body: bytes, request_id: str, callers_name: Callable[[str], str]) -> bytes:
    """Return Cohere's error, whose message uses the caller's name for the parameter."""
    whole = _decode(body)
    kept = {"gateway": whole["gateway"]} if "gateway" in whole else {}
    error = whole["error"]
    param, message = error.get("param"), str(error["message"])
    if type(param) is str and (name := callers_name(param)) != param:
        message = message.replace(f"'{param}", f"'{name}")
    return _encode({"id": request_id, "message": message, **kept})
