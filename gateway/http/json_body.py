"""Reads a caller's body up to its size limit and splits it into top-level keys with the exact bytes of their values."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from gateway.errors import BadRequest, GatewayError, RequestTooLarge
from gateway.http.json_depth import MAX_CONTAINERS, PARSERS_ALLOW_MORE, has_many_containers, is_deep
from gateway.streams.mended_json import has_escaped_half
from providers.base import Body

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_decode_key = msgspec.json.Decoder(str).decode
_BODY_HEADERS = frozenset({b"content-length", b"content-encoding", b"content-type"})
MAX_FIELDS = 1_000
"""Maximum number of top-level fields of a request."""
_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MALFORMED = re.compile(r"JSON is malformed: (.*) \(byte (\d+)\)")


class CallerDisconnectedError(Exception):
    """The caller disconnected before the body was complete."""


def check_body_headers(headers: Iterable[tuple[bytes, bytes]], limit: int) -> None:
    """Reject a body if its content-length is invalid (400), or if its headers show that it is too large (413) or not plain JSON (415)."""
    for name, value in headers:
        if name not in _BODY_HEADERS:
            continue
        if name == b"content-length":
            if not value.isdigit():
                raise BadRequest("The content-length header must be a number.", code="invalid_header")
            if len(value) > 18 or int(value) > limit:
                raise RequestTooLarge(limit)
        elif name == b"content-encoding" and value.lower() not in (b"", b"identity"):
            raise GatewayError(
                "Compressed request bodies are not supported. Send plain JSON.",
                status=415, code="unsupported_content_encoding", type="invalid_request_error",
            )  # fmt: skip
        elif name == b"content-type" and value.lower().find(b"json") < 0:
            raise GatewayError(
                "The content-type must be application/json.", status=415, code="unsupported_media_type", type="invalid_request_error"
            )


def check_size(body: bytes, limit: int) -> bytes:
    """Return the body. Raise RequestTooLarge if it exceeds `limit` bytes."""
    if len(body) > limit:
        raise RequestTooLarge(limit)
    return body


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read the whole body. Raise RequestTooLarge once it exceeds `limit` bytes, and CallerDisconnectedError if the caller disconnects."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerDisconnectedError
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return check_size(first, limit)
    pieces, size = [first], len(first)
    while message.get("more_body", False):
        if size > limit:
            raise RequestTooLarge(limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerDisconnectedError
        piece = message.get("body", b"")
        size += len(piece)
        pieces.append(piece)
    return check_size(b"".join(pieces), limit)


async def read_body_in_time(receive: Receive, limit: int, seconds: float) -> bytes:
    """Read the whole body as `read_body` does, and reject it (408) if it takes longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await read_body(receive, limit)
    except TimeoutError:
        raise body_timeout() from None


def body_timeout() -> GatewayError:
    """Return the error for a body that arrives too slowly. The connection is closed after the response."""
    return GatewayError(
        "The request body did not arrive in time.",
        status=408,
        code="request_timeout",
        type="invalid_request_error",
        headers=((b"connection", b"close"),),
    )


def parse_request(source: bytes) -> Body:
    """Parse a caller's JSON object.

    Raise BadRequest if the object is invalid, or if it has too many fields, objects or lists, because such an object would block
    the event loop, and therefore all other calls, for seconds.
    """
    body = parse_body(source)
    if len(source) > 5 * MAX_FIELDS and (count := sum(1 for _ in body)) > MAX_FIELDS:
        raise BadRequest(f"The request body has {count} fields. At most {MAX_FIELDS} are allowed.", code="request_too_complex")
    if has_many_containers(source):
        largest = max(body.items(), key=lambda item: len(item[1]))[0]
        raise BadRequest(
            f"The request has more than {MAX_CONTAINERS} objects and lists. Its largest field is {largest[:80]!r}. "
            "Split the request, or shorten the conversation.",
            param=largest[:80],
            code="request_too_complex",
        )
    return body


def parse_body(source: bytes) -> Body:
    """Parse a JSON object. Raise BadRequest (invalid_json, duplicate_key) if the object is invalid."""
    try:
        source.decode()
        body = Body(source)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The request body is not valid UTF-8 (byte {error.start}).", code="invalid_json") from None
    except msgspec.ValidationError:
        raise BadRequest("The request body must be a JSON object.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"The request body {_problem(source, error)}.", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.", code="invalid_json") from None
    if PARSERS_ALLOW_MORE and is_deep(source):
        raise BadRequest("The request body is nested too deeply.", code="invalid_json")
    _reject_duplicates(source, body)
    return body


def _problem(source: bytes, error: msgspec.DecodeError) -> str:
    """Describe the fault in a body that is not JSON, and its place."""
    if not source.strip(_SPACE):
        return "is empty; send a JSON object"
    if source.startswith(_BYTE_ORDER_MARK):
        return "is not valid JSON at byte 0: it begins with a byte order mark"
    half = has_escaped_half(source)
    if half is not None and source[: half.start()][-1:] != b"\\":
        why = "a character is cut in half (\\ud800 to \\udfff without its partner)"
        return f"is not valid JSON at byte {half.start()}: {why}"
    malformed = _MALFORMED.fullmatch(str(error))
    if malformed is None:
        return f"is not valid JSON: it ends at byte {len(source)}, before the JSON is complete"
    return f"is not valid JSON at byte {malformed[2]}: {malformed[1]}"


def _reject_duplicates(source: bytes, body: Body) -> None:
    """Reject a body that contains a key twice.

    Parsers differ in the value that they keep, so an upstream could use a model other than the authorized one.
    Compact JSON without duplicates needs no scan: the keys, the values and the punctuation between them add up to its length.
    JSON with one space after each colon and comma, as Python writes it, is compared with the same keys and values written in that form.
    """
    if body.compact_size == len(source) or not source or source == _as_sdks_write(body):
        return
    index = _skip_space(source, source.index(b"{") + 1)
    seen: set[str] = set()
    while source[index] != 0x7D:  # }
        end = _string_end(source, index)
        key = _decode_key(source[index:end])
        index = _skip_space(source, _skip_space(source, end) + 1)
        value = body.raw(key) or b""
        if key in seen or not source.startswith(value, index) or source[_skip_space(source, index + len(value))] not in b",}":
            raise BadRequest(
                f"The key {key[:80]!r} appears more than once in the request body.", param=key[:80], code="duplicate_key"
            )
        index = _skip_space(source, index + len(value))
        if source[index] == 0x2C:  # ,
            index = _skip_space(source, index + 1)
        seen.add(key)


def _as_sdks_write(body: Body) -> bytes:
    """Return a body with one space after each colon and comma. The result differs from the source if a key has an escape sequence."""
    pieces: list[bytes | msgspec.Raw] = []
    for key, value in body.items():
        pieces += (b', "', key.encode("utf-8", "replace"), b'": ', value)
    return b"{" + b"".join(pieces)[len(b", ") :] + b"}"


def _skip_space(source: bytes, index: int) -> int:
    while source[index] in _SPACE:
        index += 1
    return index


def _string_end(source: bytes, index: int) -> int:
    """Return the index after the closing quote of the string that starts at `index`."""
    end = source.index(b'"', index + 1)
    while True:
        slashes = 0
        while source[end - 1 - slashes] == 0x5C:  # backslash
            slashes += 1
        if slashes % 2 == 0:
            return end + 1
        end = source.index(b'"', end + 1)
