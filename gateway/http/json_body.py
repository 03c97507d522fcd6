"""A caller's body: read within its cap, and taken apart into top-level keys with their exact bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from gateway.errors import BadRequest, GatewayError, TooLarge
from gateway.http.json_depth import PARSERS_ALLOW_MORE, is_deep
from providers.base import Body

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_decode_key = msgspec.json.Decoder(str).decode
_BODY_HEADERS = frozenset({b"content-length", b"content-encoding", b"content-type"})
_SPACE = b" \t\r\n"


class CallerDisconnectedError(Exception):
    """The caller left before the body was complete."""


def check_body_headers(headers: Iterable[tuple[bytes, bytes]], limit: int) -> None:
    """Refuse by the request's head alone: a body that is too large, encoded, or not JSON. 413, 415."""
    for name, value in headers:
        if name not in _BODY_HEADERS:
            continue
        if name == b"content-length":
            if not value.isdigit():
                raise BadRequest("The content-length header is not a number.", code="invalid_header")
            if len(value) > 18 or int(value) > limit:
                raise TooLarge(limit)
        elif name == b"content-encoding" and value.lower() not in (b"", b"identity"):
            raise GatewayError(
                "Request bodies with a content-encoding are not taken; send plain JSON.",
                status=415, code="unsupported_content_encoding", type="invalid_request_error",
            )  # fmt: skip
        elif name == b"content-type" and b"json" not in value.lower():
            raise GatewayError(
                "The content-type must be application/json.", status=415, code="unsupported_media_type", type="invalid_request_error"
            )


def check_size(body: bytes, limit: int) -> bytes:
    """The body; TooLarge when it is."""
    if len(body) > limit:
        raise TooLarge(limit)
    return body


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body; TooLarge as soon as it passes `limit` bytes, CallerGone when the caller leaves."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerDisconnectedError
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return check_size(first, limit)
    pieces, size = [first], len(first)
    while message.get("more_body", False):
        if size > limit:
            raise TooLarge(limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerDisconnectedError
        piece = message.get("body", b"")
        size += len(piece)
        pieces.append(piece)
    return check_size(b"".join(pieces), limit)


def parse_body(source: bytes) -> Body:
    """A JSON object as a Body; BadRequest (invalid_json, duplicate_key) otherwise."""
    try:
        source.decode()
        body = Body(source)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not valid UTF-8 (byte {error.start}).", code="invalid_json") from None
    except msgspec.ValidationError:
        raise BadRequest("The request body must be a JSON object.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.", code="invalid_json") from None
    if PARSERS_ALLOW_MORE and is_deep(source):
        raise BadRequest("The request body is nested too deeply.", code="invalid_json")
    _reject_duplicates(source, body)
    return body


def _reject_duplicates(source: bytes, body: Body) -> None:
    """A parser keeps the last of two equal keys, so the model we authorize might not be the one that is sent.

    Compact JSON needs no scan: if every key and value adds up to the source's length, nothing was dropped.
    """
    length = 1
    for key, value in body.items():
        length += len(key) + len(value) + 4
    if length == len(source) or not source:
        return
    at = _skip_space(source, source.index(b"{") + 1)
    seen: set[str] = set()
    while source[at] != 0x7D:  # }
        end = _string_end(source, at)
        key = _decode_key(source[at:end])
        at = _skip_space(source, _skip_space(source, end) + 1)
        value = body.raw(key) or b""
        if key in seen or not source.startswith(value, at) or source[_skip_space(source, at + len(value))] not in b",}":
            raise BadRequest(f"The key {key[:80]!r} appears more than once in the request body.", param=key[:80], code="duplicate_key")
        at = _skip_space(source, at + len(value))
        if source[at] == 0x2C:  # ,
            at = _skip_space(source, at + 1)
        seen.add(key)


def _skip_space(source: bytes, at: int) -> int:
    while source[at] in _SPACE:
        at += 1
    return at


def _string_end(source: bytes, at: int) -> int:
    """Where the string that opens at `at` ends (one past its closing quote)."""
    end = source.index(b'"', at + 1)
    while True:
        slashes = 0
        while source[end - 1 - slashes] == 0x5C:  # backslash
            slashes += 1
        if slashes % 2 == 0:
            return end + 1
        end = source.index(b'"', end + 1)
