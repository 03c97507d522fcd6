"""All error responses, with their status and code, and the effect of each kind of failure.

    GatewayError                   status, code, type, param, headers; its body is OpenAI's error object
    ├── BadRequest        400      the caller's body or parameters          invalid_json, invalid_value, unsupported_parameter ...
    ├── Unauthorized      401      no key, or an unknown one                invalid_api_key
    ├── Forbidden         403      a key without this permission            key_disabled, key_expired, model_not_allowed
    ├── NotFound          404      unknown model or path                    model_not_found, not_found
    ├── RequestTooLarge   413      the body exceeds `max_body`              request_too_large
    ├── LimitReached      429      a limit of the caller is used up         rate_limit_exceeded, insufficient_quota
    ├── Unavailable       503      the call cannot be served now            model_unavailable, overloaded, server_shutting_down
    └── UpstreamFailed    4xx/5xx  no usable answer of a target; `from_failure` builds it by the table FAILURES

Before the first byte, an error is an HTTP response; after it, an event on the stream (`as_event`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from providers.base import Failure, FailureKind, Refusal

_encode = msgspec.json.Encoder().encode

Headers = Sequence[tuple[bytes, bytes]]


class GatewayError(Exception):
    """An error response to the caller."""

    status = 500
    code: str | None = "internal_error"
    type = "server_error"
    logged: str | None = None
    """The part of the message that the gateway itself wrote, if the rest may quote a prompt."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        type: str | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = headers
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if type is not None:
            self.type = type

    def as_body(self) -> bytes:
        """Return OpenAI's error object as JSON."""
        return _encode({"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}})

    def as_event(self) -> bytes:
        """Return the error as the last event of a stream; no [DONE] follows it."""
        return b"data: " + self.as_body() + b"\n\n"


class BadRequest(GatewayError):
    """The caller's request is invalid or cannot be honoured."""

    status, code, type = 400, "invalid_value", "invalid_request_error"


def refuse(param: str, message: str, code: str = "invalid_value") -> BadRequest:
    """Return a 400 that names the parameter."""
    return BadRequest(message, param=param, code=code)


WWW_AUTHENTICATE: Headers = ((b"www-authenticate", b"Bearer"),)


class Unauthorized(GatewayError):
    """The key is missing or unknown."""

    status, code, type = 401, "invalid_api_key", "invalid_request_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=WWW_AUTHENTICATE)


class InvalidToken(Unauthorized):
    """The signed token is not valid. A response header informs clients that they need a new token (RFC 6750)."""

    code = "invalid_token"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        GatewayError.__init__(self, message, code=code, headers=((b"www-authenticate", b'Bearer error="invalid_token"'),))


class Forbidden(GatewayError):
    """The key does not permit this call."""

    status, code, type = 403, "model_not_allowed", "invalid_request_error"


class NotFound(GatewayError):
    """The model or path is unknown."""

    status, code, type = 404, "not_found", "invalid_request_error"


class RequestTooLarge(GatewayError):
    """The body exceeds `max_body`. The rest of the body is discarded, and the connection is closed after the response."""

    status, code, type = 413, "request_too_large", "invalid_request_error"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body exceeds the limit of {limit} bytes.", headers=((b"connection", b"close"),))


class LimitReached(GatewayError):
    """A limit of the caller is used up."""

    status, code, type = 429, "rate_limit_exceeded", "requests"


class Unavailable(GatewayError):
    """The gateway cannot serve this request now; the same request may succeed later."""

    status, code, type = 503, "model_unavailable", "server_error"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float = 1.0) -> None:
        super().__init__(message, code=code, headers=retry_after_headers(retry_after))


class UpstreamFailed(GatewayError):
    """The error response to a call without a usable answer. It describes the failure that is most useful to the caller."""

    type = "upstream_error"


Then = Literal["retry", "next", "stop"]
Blame = Literal["failure", "rate_limit", "quota", "auth", "model", "caller"]


class Consequence(NamedTuple):
    """The consequences of one kind of failure."""

    status: int
    """HTTP status and error code for the caller if no other target answers."""
    code: str
    then: Then = "next"
    """`retry`: the same target again if its model has `retries`, then the next target; `next`: the next target at once;
    `stop`: no other target, because every target would fail in the same way or another attempt cannot help.
    """
    blame: Blame = "failure"
    """The effect on the target's health: one more `failure` in a row, a `rate_limit`, an account out of `quota`, an invalid
    credential (`auth`), a missing `model`, or none, because the fault is the `caller`'s.
    """
    again: bool = True
    """Whether the same request may succeed soon. If not, the response has `x-should-retry: false`."""


FAILURES: dict[FailureKind, Consequence] = {
    # connecting
    "connect": Consequence(502, "upstream_connect_error", "retry"),
    "connect_timeout": Consequence(504, "upstream_connect_timeout"),
    "dns": Consequence(502, "upstream_dns_error"),
    "blocked": Consequence(502, "upstream_blocked", again=False),
    "tls": Consequence(502, "upstream_tls_error", again=False),
    "tls_timeout": Consequence(504, "upstream_tls_error"),
    # deadlines
    "header_timeout": Consequence(504, "upstream_timeout"),
    "timeout": Consequence(504, "upstream_timeout"),
    "ttft_timeout": Consequence(504, "upstream_timeout"),
    "stalled": Consequence(504, "upstream_stalled"),
    # an interrupted response
    "closed_pre": Consequence(502, "upstream_closed", "retry"),
    "truncated": Consequence(502, "upstream_truncated"),
    "reset": Consequence(502, "upstream_reset", "retry"),
    # an invalid response
    "bad_body": Consequence(502, "upstream_bad_response"),
    "bad_event": Consequence(502, "upstream_bad_event"),
    "too_large": Consequence(502, "upstream_event_too_large"),
    "protocol": Consequence(502, "upstream_bad_response"),
    "encoding": Consequence(502, "upstream_bad_response"),
    "redirect": Consequence(502, "upstream_redirect", again=False),
    # an error response
    "rate_limit": Consequence(429, "rate_limit_exceeded", blame="rate_limit"),
    "quota": Consequence(429, "insufficient_quota", blame="quota", again=False),
    "auth": Consequence(502, "upstream_auth_error", blame="auth", again=False),
    "client_error": Consequence(400, "invalid_request_error", "stop", "caller", again=False),
    "content_filter": Consequence(400, "content_filter", "stop", "caller", again=False),
    "context_overflow": Consequence(400, "context_length_exceeded", "next", "caller", again=False),
    "request_too_large": Consequence(413, "request_too_large", "next", "caller", again=False),
    "not_found": Consequence(404, "not_found", "next", "caller", again=False),
    "model_not_found": Consequence(404, "model_not_found", "next", "model", again=False),
    "path_not_found": Consequence(502, "upstream_path_not_found", "next", "failure", again=False),
    "overloaded": Consequence(503, "upstream_overloaded", "retry"),
    "server_error": Consequence(502, "upstream_error", "retry"),
    "inband_error": Consequence(502, "upstream_error", "retry"),
    "upstream_error": Consequence(502, "upstream_error"),
    "crashed": Consequence(503, "engine_crashed", "retry"),
    # a response without an end
    "limit": Consequence(502, "output_limit"),
}
"""Every kind of failure and its consequences. After the head of a stream is sent, `then` does not apply: a
target continues the stream, or the stream ends.
"""

MAX_SDK_RETRY_AFTER_S = 120.0
"""openai-python does not retry if Retry-After is longer than this (its MAX_RETRY_AFTER_DELAY)."""
NO_RETRY = (b"x-should-retry", b"false")


def retry_after_headers(seconds: float) -> Headers:
    """Return `retry-after` in whole seconds and `retry-after-ms`."""
    return (
        (b"retry-after", str(max(1, math.ceil(seconds))).encode()),
        (b"retry-after-ms", str(max(1, math.ceil(seconds * 1000))).encode()),
    )


def unreadable(error: Exception) -> BadRequest:
    """Return the 400 for a body with a value that is valid JSON but cannot be decoded, such as 1e999."""
    return BadRequest(f"The request body contains a value that cannot be decoded: {error}.", code="invalid_json")


def from_refusal(refusal: Refusal) -> BadRequest:
    """Return the 400 for a refusal by a provider's rules."""
    return BadRequest(refusal.message, param=refusal.param, code=refusal.code)


def from_failure(failure: Failure, target: str) -> GatewayError:
    """Return the error of a failed call: the upstream's own error if the request caused it, else the error in FAILURES for the kind.

    For some kinds, the error has the upstream's own status or code.
    """
    if FAILURES[failure.kind].blame == "caller":
        type_ = failure.type or "invalid_request_error"
        status = failure.status or FAILURES[failure.kind].status
        error = GatewayError(failure.message, status=status, param=failure.param, type=type_, headers=(NO_RETRY,))
        error.code = failure.code  # null if the upstream sends null, as OpenAI often does
        return error
    status, code, *_, again = FAILURES[failure.kind]
    if failure.kind in ("server_error", "inband_error", "upstream_error") and failure.status in (503, 504, 529):
        status = 503 if failure.status == 529 else failure.status
    headers: Headers = ()
    if failure.retry_after is not None or (status in (429, 503) and failure.kind != "quota"):
        wait = failure.retry_after if failure.retry_after is not None else 1.0
        headers = retry_after_headers(wait) if math.isfinite(wait) else ()
    if not again or (failure.retry_after or 0.0) > MAX_SDK_RETRY_AFTER_S:
        headers = (*headers, NO_RETRY)
    kind = {429: "rate_limit_error" if failure.kind == "rate_limit" else "insufficient_quota"}.get(status, "upstream_error")
    if failure.kind == "model_not_found":
        kind = "invalid_request_error"
    message = f"{target}: {failure.message}"
    if failure.kind in ("inband_error", "upstream_error", "server_error", "overloaded") and failure.code and not failure.code.isdigit():
        code = failure.code
    failed = UpstreamFailed(message, status=status, code=code, type=kind, headers=headers)
    failed.logged = message if failure.is_own else None
    return failed
