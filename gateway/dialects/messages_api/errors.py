"""Translates errors and rate-limit headers to Anthropic's format.

Sources: platform.claude.com/docs/en/api/errors and .../rate-limits, as of 2026-11; anthropic 2.14.0 (shared/*_error).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from gateway.dialects.messages_api.fields import decode_any, encode
from gateway.errors import Headers

TYPE_OF_STATUS: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""Anthropic's error types; other 4xx statuses become `invalid_request_error`, and other 5xx statuses `api_error`."""

_TYPE_OF_CODE: Mapping[str, str] = {
    "rate_limit_exceeded": "rate_limit_error",
    "insufficient_quota": "rate_limit_error",
    "overloaded": "overloaded_error",
    "upstream_overloaded": "overloaded_error",
    "model_unavailable": "overloaded_error",
    "server_shutting_down": "overloaded_error",
    "engine_crashed": "overloaded_error",
    "upstream_timeout": "timeout_error",
    "upstream_stalled": "timeout_error",
    "upstream_connect_timeout": "timeout_error",
}
"""Types of errors inside a stream, which have no status."""
_TYPES = frozenset({"api_error", "conflict_error", "invalid_request_error", *TYPE_OF_STATUS.values()})

_RESET = b"x-ratelimit-reset-"
_LIMITS = {
    f"x-ratelimit-{field}-{kind}".encode(): f"anthropic-ratelimit-{kind}-{field}".encode()
    for field in ("limit", "remaining", "reset")
    for kind in ("requests", "tokens")
}
"""The names of headers with rate limits, and Anthropic's names."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def error_type(status: int) -> str:
    """Return the type of an error with this status."""
    return TYPE_OF_STATUS.get(status, "invalid_request_error" if status < 500 else "api_error")


def translate_error(status: int, body: bytes, request_id: str | None, param: Callable[[str], str] = str) -> bytes:
    """Return the error object of a response. The code and a receipt are kept.

    `param` returns the caller's name for a parameter.
    """
    return encode(_error(body, error_type(status), request_id, param))


def error_event(body: bytes, request_id: str | None, param: Callable[[str], str] = str) -> bytes:
    """Return the error event of a stream."""
    decoded = _decoded(body)
    named = decoded.get("type")
    kind = _TYPE_OF_CODE.get(str(decoded.get("code"))) or (named if named in _TYPES else "api_error")
    return b"event: error\ndata: " + encode(_error(body, kind, request_id, param)) + b"\n\n"


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        decoded = decode_any(body)
    except msgspec.DecodeError:
        return {}
    error = decoded.get("error") if type(decoded) is dict else None
    return error if type(error) is dict else {"message": error} if type(error) is str else {}


def _error(body: bytes, kind: str, request_id: str | None, param: Callable[[str], str]) -> dict[str, Any]:
    given = _decoded(body)
    message, name = str(given.get("message") or "The request failed."), given.get("param")
    error: dict[str, Any] = {"type": kind, "message": message}
    if type(name) is str:
        error["param"] = param(name)
        error["message"] = message.replace(f"'{name}", f"'{error['param']}")
    if given.get("code") is not None:
        error["code"] = given["code"]
    whole: dict[str, Any] = {"type": "error", "error": error, "request_id": request_id}
    if b'"gateway"' in body and (receipt := decode_any(body).get("gateway")) is not None:
        whole["gateway"] = receipt
    return whole


def translate_headers(headers: Headers, now: float | None = None) -> list[tuple[bytes, bytes]]:
    """Return the headers with Anthropic's names: request id and rate limits. A reset is given as a point in time, rounded up to seconds."""
    translated: list[tuple[bytes, bytes]] = []
    for header in headers:
        if header[0] == b"x-request-id":
            translated.insert(0, (b"request-id", header[1]))
        translated.append(_limit(header, now) if header[0] in _LIMITS else header)
    return translated


def _limit(header: tuple[bytes, bytes], now: float | None) -> tuple[bytes, bytes]:
    name, value = header
    if name.startswith(_RESET):
        value = _timestamp(math.ceil((time.time() if now is None else now) + duration_s(value.decode())))
    return _LIMITS[name], value


def duration_s(text: str) -> float:
    """Return the seconds of a duration such as `1h2m3.5s` or `12ms`."""
    return sum([float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text)])


@lru_cache(64)
def _timestamp(seconds: int) -> bytes:
    """Return a time in RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)).encode()
