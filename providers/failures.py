"""Reads error responses of any shape: OpenAI's, Anthropic's, Google's array, FastAPI's, plain text.

Messages are shortened, free of credentials, and never HTML.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from providers.base import Failure, FailureKind
from providers.limit_failures import finds, is_context_overflow, is_out_of_credit, is_overload, is_rate_limit
from providers.request_failures import connection_fault, is_content_refusal, kind_of_request_failure

MAX_MESSAGE_CHARS = 1_000
MAX_RETRY_AFTER_S = 86_400.0
"""A longer Retry-After counts as one day."""

_PERMISSION_CODES = frozenset({"tier_not_allowed", "model_not_allowed", "unsupported_country_region_territory"})
"""Codes of a 403 that concerns the request and not the credential. Sources: SIATI's wiki (errors); openai 3.57.0."""
_PERMISSION_WORDS = (
    r"content|polic(?:y|ies)|moderat|safety|harmful|flagged|(?:was|been) blocked|blocked by|guidelines|prohibited|inappropriate|usage terms"
    r"|permission|permitted|not (?:allowed|enabled|entitled|available)|not authorized to|(?:no|not have) access|access (?:to|denied)"
    r"|not supported in your|unsupported (?:country|region)|your (?:country|region|location|plan)"
    r"|(?:country|region|territory|location) (?:is )?not supported"
)
_CREDENTIAL_WORDS = (
    r"(?:invalid|incorrect|wrong|expired|revoked|disabled|missing|unknown|bad|no)\b[^.]{0,40}\b(?:api[ _-]?key|key|token|credential)s?"
    r"|(?:api[ _-]?key|key|token|credential)s?\b[^.]{0,25}\b(?:invalid|incorrect|not valid|expired|revoked|disabled|missing|not found)"
    r"|(?:api[ _-]?key|key|token|credential)s?\b[^.]{0,25}\b(?:blocked|suspended)"
    r"|authenticat|unregistered callers"
)
"""These words and _PERMISSION_WORDS decide whether a 403 concerns the credential. Together and OpenRouter send 403 for
a moderated prompt; Anthropic (permission_error), Groq, xAI and OpenAI ("Country, region, or territory not supported")
send it for a valid credential. Google's 403 for a missing credential contains "unregistered callers"."""
_SECRET = re.compile(r"(?i)\b(?:bearer\s+[\w.~+/=*-]{6,}|(?:sk|gsk|csk|fw|flp|xai|pplx|key|siati|tgp)[-_][\w*.-]{8,}|AIza[\w*-]{10,})")
_KINDS: dict[int, FailureKind] = {
    401: "auth", 402: "quota", 403: "auth", 407: "server_error", 408: "server_error", 421: "server_error",
    423: "server_error", 424: "server_error", 425: "server_error", 429: "rate_limit", 503: "overloaded", 529: "overloaded",
}  # fmt: skip
_decode = msgspec.json.Decoder().decode

_STATUS_OF = {
    "overloaded_error": 529,
    "server_is_overloaded": 503,
    "engine_overloaded_error": 503,
    "exceeded_current_quota_error": 429,
    "rate_limit_reached": 429,
    "billing_error": 402,
    "insufficient_balance": 402,
    "payment_required": 402,
    "request_too_large": 413,
    "content_filter": 400,
    "service_unavailable": 503,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "too_many_requests": 429,
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "insufficient_quota": 429,
    "context_length_exceeded": 400,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
}
"""The HTTP status for error types and codes of OpenAI, Anthropic, vLLM and Google that come without a status."""


def has_error(body: bytes) -> bool:
    """Return whether a body is an object with a non-empty `error`, or a list that begins with such an object."""
    try:
        value = _first(_decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return type(value) is dict and bool(value.get("error"))


def read_inband_failure(data: bytes, read: Callable[[int, bytes], Failure]) -> Failure:
    """Return the failure of an error without an HTTP status. `read` gets the status that the error names or implies, else 500."""
    status = 500
    try:
        value = _first(_decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if type(value) is dict:
        inner = value["error"] if type(value.get("error")) is dict else {}
        named = (
            value.get("status_code"),
            inner.get("status_code"),
            inner.get("code"),
            inner.get("status"),
            value.get("code"),
            inner.get("type"),
            value.get("type"),
        )
        status = next((known for word in named if (known := _status(word))), 500)
    failure = read(status, data)
    return failure if failure.kind != "server_error" else msgspec.structs.replace(failure, kind="inband_error")


def _status(word: Any) -> int | None:
    if isinstance(word, str):
        return int(word) if word.isdigit() and 400 <= int(word) < 600 else _STATUS_OF.get(word)
    return word if isinstance(word, int) and not isinstance(word, bool) and 400 <= word < 600 else None


def _first(value: Any) -> Any:
    """Return the first element of a list (Google's form of an error), or the value itself."""
    return value[0] if type(value) is list and value else value


def read_failure(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    credential: str | None = None,
    clock: Callable[[], float] = time.time,
) -> Failure:
    """Classify an error response. Never raise. `clock` returns the Unix time, for dates in Retry-After."""
    if (fault := connection_fault(status, body)) is not None:
        return Failure("tls", fault, status)
    error = read_error(body)
    message, redacted = _cut_secrets(error.get("message") or f"the upstream answered HTTP {status}", credential)
    code, param, type_ = _word(error.get("code")), _word(error.get("param")), _word(error.get("type"))
    retry_after = read_retry_after(headers, clock)
    if retry_after is None:
        retry_after = error.get("retry_after")
    kind = _kind(status, code, type_, error)
    if kind == "rate_limit":
        status = 429
    if kind in ("client_error", "server_error") and is_context_overflow(status, {code, type_}, message):
        kind = "context_overflow"
        status, code, type_ = 400, "context_length_exceeded", "invalid_request_error"
    elif kind == "client_error" or is_content_refusal(status, {code, type_}, message):
        kind = kind_of_request_failure(status, {code, type_, _word(error.get("status"))}, param, message, is_object="code" in error)
    if kind == "model_not_found":
        status, code = 404, "model_not_found"
    elif kind == "path_not_found":
        message = f"the upstream has no API at this path; check the provider's base_url ({message})"
    return Failure(kind, message, status, code, param, type_, retry_after, redacted)


def _kind(status: int, code: str | None, type_: str | None, error: Mapping[str, Any]) -> FailureKind:
    if 300 <= status < 400:
        return "redirect"
    words, message = {code, type_}, error.get("message") or ""
    if (status == 429 and error.get("quota")) or is_out_of_credit(status, words, message):
        return "quota"
    if is_overload(status, words):
        return "overloaded"
    if status == 429 or is_rate_limit(status, words, message):
        return "rate_limit"
    if status == 403 and (words & _PERMISSION_CODES or _is_permission(message)):
        return "client_error"
    if status == 400 and error.get("reason") == "API_KEY_INVALID":
        return "auth"
    if status in _KINDS:
        return _KINDS[status]
    return "client_error" if 400 <= status < 500 else "server_error"


def _is_permission(message: str) -> bool:
    """Return whether the message of a 403 is about the content or the permission, and not about the credential."""
    return finds(_PERMISSION_WORDS, message) and not finds(_CREDENTIAL_WORDS, message)


def read_error(body: bytes) -> dict[str, Any]:
    """Return an error's message, type, param and code, Google's reason and quota, and the retry_after of Google or SIATI."""
    try:
        value = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"message": _plain_text(body)}
    value = _first(value)
    if type(value) is str:
        return {"message": value}
    if type(value) is not dict:
        return {}
    inner = value.get("error", value)
    if inner is value and type(errors := value.get("errors")) is list and errors:
        inner = errors[0]
    if type(inner) is str:
        return {**_fields(value), "message": inner}
    if type(inner) is not dict:
        return _fields(value)
    return _fields(inner)


_MESSAGE_NAMES = ("message", "msg", "error_msg", "error_message")
"""The fields that hold the message: OpenAI's, then those of Baidu and of servers in China."""


def _fields(error: dict[str, Any]) -> dict[str, Any]:
    message = next((text for name in _MESSAGE_NAMES if type(text := error.get(name)) is str and text), None)
    if message is None:
        message = _detail(error.get("detail", error.get("message")))
    fields: dict[str, Any] = {"message": message, "type": error.get("type"), "param": error.get("param"), "code": error.get("code")}
    if type(error.get("status")) is str:  # a google.rpc.Code name; then `code` is the HTTP status
        refused = error["status"] in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "NOT_FOUND")
        fields["code"], fields["type"] = (error["status"], "invalid_request_error") if refused else (None, None)
    resets = error.get("resets_in_seconds")  # SIATI
    if isinstance(resets, int | float) and not isinstance(resets, bool) and resets >= 0:
        fields["retry_after"] = min(float(resets), MAX_RETRY_AFTER_S)
    details = error.get("details")
    if type(details) is list:
        fields |= _google_details(details)
    return fields


def _detail(detail: Any) -> str | None:
    """Read FastAPI's `detail`: a string, or a list of {loc, msg, type}."""
    if type(detail) is str:
        return detail
    if type(detail) is not list:
        return None if detail is None else msgspec.json.encode(detail).decode()[:MAX_MESSAGE_CHARS]
    texts = []
    for entry in detail[:5]:
        if type(entry) is dict and "msg" in entry:
            steps = entry.get("loc")
            where = ".".join(str(step) for step in steps if step != "body") if type(steps) is list else ""
            texts.append(f"{where}: {entry['msg']}" if where else str(entry["msg"]))
        elif type(entry) is str:
            texts.append(entry)
    return "; ".join(texts) or None


def _google_details(details: list[Any]) -> dict[str, Any]:
    """Read google.rpc.RetryInfo (delay), QuotaFailure (daily quota) and ErrorInfo (reason)."""
    fields: dict[str, Any] = {}
    for entry in details:
        if type(entry) is not dict:
            continue
        kind = str(entry.get("@type", ""))
        if kind.endswith("RetryInfo"):
            fields["retry_after"] = _seconds(str(entry.get("retryDelay", "")).removesuffix("s"))
        elif kind.endswith("QuotaFailure") and "PerDay" in str(entry.get("violations", "")):
            fields["quota"] = True
        elif kind.endswith("ErrorInfo"):
            fields["reason"] = entry.get("reason")
    if fields.get("quota"):
        fields["retry_after"] = None  # the delay applies to the limit per minute
    return fields


def read_retry_after(headers: Mapping[str, str], clock: Callable[[], float] = time.time) -> float | None:
    """Return the seconds to wait from retry-after-ms or retry-after (seconds or a date), or None."""
    millis = headers.get("retry-after-ms")
    if millis is not None and (seconds := _seconds(millis)) is not None:
        return min(seconds / 1000, MAX_RETRY_AFTER_S)
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
        return min(max(0.0, date.timestamp() - clock()), MAX_RETRY_AFTER_S)
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds(text: str) -> float | None:
    if not re.fullmatch(r"\s*\d{1,12}(\.\d{1,9})?\s*", text):
        return None
    return min(float(text), MAX_RETRY_AFTER_S)


def redact(message: str, credential: str | None = None) -> str:
    """Shorten a message for display and remove everything that looks like a credential."""
    return _cut_secrets(message, credential)[0]


def _cut_secrets(message: str, credential: str | None) -> tuple[str, int]:
    """Return the message as shortened by `redact`, and the number of secrets removed."""
    message, count = _SECRET.subn("***", message)
    if credential and len(credential) > 3:
        count += message.count(credential)
        message = message.replace(credential, "***")
    message = "".join(ch if ch.isprintable() else " " for ch in message[: MAX_MESSAGE_CHARS + 1])
    return (message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"), count


def _word(value: Any) -> str | None:
    """Return a code, param or type as a short string, or None for "" and for a value that is neither a string nor an integer."""
    if type(value) is int:
        return str(value)
    return value[:200] if type(value) is str and value else None


def _plain_text(body: bytes) -> str | None:
    """Return the text of a body that is not JSON, or None if it is markup or empty."""
    text = body[: MAX_MESSAGE_CHARS * 4].decode("utf-8", "replace").strip()
    if text.startswith("<") or not any(ch.isprintable() and not ch.isspace() for ch in text):
        return None
    return text
