"""Response headers: those of the gateway, and the few upstream headers that are passed on."""

from __future__ import annotations

import re
import time

from gateway.call import Attempt, Call, paused_after, phases
from gateway.errors import GatewayError, Headers
from gateway.response.receipt import adjusted_header
from gateway.response.redaction import mask_headers
from gateway.upstream.transport import Response

_LINKED = re.compile(rb"[\x21-\x7e]{1,128}\Z")


_REQUEST_IDS = frozenset({b"x-request-id", b"request-id", b"apim-request-id"})


_PASSED = frozenset({b"cf-ray", b"x-amz-cf-id", b"x-delay-time"})


_STREAM_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


def linked_id(value: bytes) -> str | None:
    """Return the caller's x-request-id if it is printable ASCII without spaces and at most 128 bytes long, else None."""
    return value.decode("ascii") if _LINKED.match(value) else None


def common_headers(call: Call) -> list[tuple[bytes, bytes]]:
    """Return the headers that streams, JSON answers and errors have in common."""
    headers = [(b"x-request-id", call.id.encode())]
    if call.client_id is not None:
        headers.append((b"x-client-request-id", call.client_id.encode()))
    if call.attempts:
        headers.append((b"x-gateway-attempts", b"%d" % len(call.attempts)))
    attempt = call.answered_by or call.final_attempt
    if attempt is not None:
        headers.append((b"x-gateway-target", attempt.target.name.encode("ascii", "backslashreplace")))
        if attempt.queue_s or call.pauses or len(call.attempts) > 1:
            headers.append((b"server-timing", _server_timing(call, attempt)))
        else:  # the usual case, without the cost of `phases`
            ours = (attempt.sent_at - call.started) * 1000
            theirs = max(0.0, time.monotonic() - attempt.sent_at) * 1000
            headers.append((b"server-timing", b"gateway;dur=%.2f, upstream;dur=%.2f" % (ours, theirs)))
        if attempt.cache:
            shown = b"hit;age=%d" % attempt.cache_age_s if attempt.cache == "hit" else attempt.cache.encode()
            headers.append((b"x-gateway-cache", shown))
    if call.limit_headers:
        headers.extend(call.limit_headers)
    if attempt is not None and attempt.adjustments:
        headers.append((b"x-gateway-adjusted", adjusted_header(attempt.adjustments)))
    return headers


def _server_timing(call: Call, attempt: Attempt) -> bytes:
    """Return the milliseconds of each phase. Leave out the queue and earlier attempts if they took no time."""
    ours, queue, retries = phases(call, attempt)
    upstream = max(0.0, time.monotonic() - attempt.sent_at - paused_after(call, attempt))
    parts = [b"gateway;dur=%.2f" % (ours * 1000)]
    if queue:
        parts.append(b"queue;dur=%.2f" % (queue * 1000))
    if retries:
        parts.append(b"retries;dur=%.2f" % (retries * 1000))
    return b", ".join([*parts, b"upstream;dur=%.2f" % (upstream * 1000)])


def _upstream_headers(attempt: Attempt, response: Response, headers: list[tuple[bytes, bytes]]) -> None:
    """Append upstream headers: rate limits and request id under names of the gateway, and three others unchanged.

    The target's secrets are masked in the values.
    """
    start, target = len(headers), attempt.target
    for name, value in response.headers:
        if name[:1] not in (b"x", b"r", b"a", b"c"):
            continue
        if name.startswith(b"x-ratelimit-"):
            headers.append((b"x-upstream-" + name[2:], value))
        elif name in _REQUEST_IDS:
            attempt.upstream_id = value[:128].decode("latin-1")
            headers.append((b"x-upstream-request-id", value[:128]))
        elif name in _PASSED:
            headers.append((name, value))
    secret = target.credential
    if len(headers) == start:
        return
    if target.headers or (secret and b"\n".join([value for _, value in headers[start:]]).find(secret.encode()) >= 0):
        headers[start:] = mask_headers(headers[start:], target)
        ids = [value for name, value in headers[start:] if name == b"x-upstream-request-id"]
        attempt.upstream_id = ids[-1].decode("latin-1") if ids else None


def json_headers(call: Call, attempt: Attempt, response: Response, length: int) -> Headers:
    """Return the headers of a JSON answer of `length` bytes."""
    headers = common_headers(call)
    headers.append((b"content-type", b"application/json"))
    headers.append((b"content-length", b"%d" % length))
    _upstream_headers(attempt, response, headers)
    return headers


def stream_headers(call: Call, attempt: Attempt, response: Response) -> Headers:
    """Return the headers of a stream."""
    headers = common_headers(call)
    headers.extend(_STREAM_HEADERS)
    _upstream_headers(attempt, response, headers)
    return headers


def error_headers(call: Call, error: GatewayError, length: int) -> Headers:
    """Return the headers of an error with a body of `length` bytes."""
    return [*common_headers(call), (b"content-type", b"application/json"), (b"content-length", b"%d" % length), *error.headers]
