"""providers.failures: error responses of every shape are classified alike, without secrets."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.failures import MAX_MESSAGE_CHARS, read_failure, read_retry_after
from tests.providers.adapting import target_for
from tests.support.each import each

NOW = 1_000_000_000.0


def fail(status: int, body: Any, **headers: str) -> Any:
    """Return the Failure for a JSON or raw error body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_failure(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, clock=lambda: NOW)


@each(
    ("status", "kind"),
    [
        (301, "redirect"), (400, "client_error"), (401, "auth"), (402, "quota"), (403, "auth"), (404, "not_found"),
        (408, "server_error"), (409, "client_error"), (413, "request_too_large"), (422, "client_error"), (429, "rate_limit"),
        (407, "server_error"), (421, "server_error"), (423, "server_error"), (424, "server_error"), (425, "server_error"),
        (500, "server_error"), (502, "server_error"), (503, "overloaded"), (504, "server_error"), (529, "overloaded"),
    ],
)  # fmt: skip
def test_status_is_classified(status: int, kind: str) -> None:
    assert fail(status, {"error": {"message": "m"}}).kind == kind


@each(
    ("body", "message"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"error": "m"}, "m"),
        ({"message": "m"}, "m"),
        ({"object": "error", "message": "m", "code": 400}, "m"),
        ({"detail": "m"}, "m"),
        ({"detail": [{"loc": ["body", "x"], "msg": "m", "type": "t"}]}, "x: m"),
        ([{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}], "m"),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "m"}}, "m"),
        ({"success": False, "errors": [{"code": 5, "message": "m"}]}, "m"),
        ({"errors": ["m"]}, "m"),
        ({"code": 5, "msg": "m"}, "m"),
        ({"error": {"error_msg": "m"}}, "m"),
        (b"m", "m"),
        (b"", "the upstream answered HTTP 400"),
        (b"\0\0 \0", "the upstream answered HTTP 400"),
        (b"<html><body>nginx</body></html>", "the upstream answered HTTP 400"),
        ({}, "the upstream answered HTTP 400"),
    ],
)
def test_message_is_read_from_every_error_shape(body: Any, message: str) -> None:
    assert fail(400, body).message == message


@each(
    ("status", "body"),
    [
        (429, {"error": {"message": "m", "code": "insufficient_quota"}}),
        (429, {"error": {"message": "m", "type": "quota_exhausted", "code": "daily_quota_exhausted"}}),
        (400, {"type": "error", "error": {"type": "billing_error", "message": "m"}}),
        (402, b"no credits"),
        (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API"}}),
        (429, [{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerDayPerProject"}]}]}}]),
    ],
)  # fmt: skip
def test_exhausted_quota_is_not_a_rate_limit(status: int, body: Any) -> None:
    assert fail(status, body).kind == "quota"


def test_google_error_details_are_read() -> None:
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    assert fail(429, [{"error": {"code": 429, "message": "m", "details": [wait]}}]).retry_after == 34.5
    bad = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    assert fail(400, [{"error": {"code": 400, "message": "m", "details": [bad]}}]).kind == "auth"


@each(
    ("status", "error"),
    [
        (400, {"code": "context_length_exceeded", "message": "m"}),
        (422, {"code": "context_too_long", "message": "m"}),
        (413, {"message": "This model's maximum context length is 4096 tokens"}),
        (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}),
        (400, {"message": "the request exceeds the available context size (2048 tokens)"}),
    ],
)
def test_prompt_too_long_is_always_context_length_exceeded(status: int, error: dict[str, str]) -> None:
    result = fail(status, {"error": error})
    assert (result.kind, result.status, result.code) == ("context_overflow", 400, "context_length_exceeded")


@each(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Sun, 09 Sep 2001 01:46:45 GMT"}, 5.0),
        ({"retry-after": "Wed, 21 Oct 1998 07:28:00 GMT"}, 0.0),
        ({"retry-after": "18432"}, 18432.0),
        ({"retry-after": "99999999999"}, 86_400.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_parsed_and_bounded(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers, lambda: NOW) == seconds


def test_credentials_are_redacted_from_the_message() -> None:
    target = target_for("openai")
    words = "Incorrect API key provided: sk-proj-abcdefghijklmnop. KEY Bearer abc.def.ghi AIzaSyDabcdefghijk"
    result = target.kind.failure(401, {}, json.dumps({"error": {"message": words}}).encode(), target).message
    assert "abcdefghij" not in result
    assert "abc.def" not in result
    assert "Incorrect API key provided" in result


def test_long_message_is_shortened_and_made_printable() -> None:
    assert len(fail(400, {"message": "x" * 5000}).message) <= MAX_MESSAGE_CHARS
    assert fail(400, {"message": "a\r\nx-evil: 1\x00"}).message == "a  x-evil: 1 "


@given(st.integers(300, 599), st.binary(max_size=200))
def test_random_error_bodies_never_raise(status: int, body: bytes) -> None:
    assert read_failure(status, {}, body).message


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"detail":' * 900 + b"1" + b"}" * 900, b'[' * 900 + b"]" * 900])
def test_deeply_nested_error_bodies_never_raise(body: bytes) -> None:
    assert read_failure(500, {}, body).message


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "detail", "details", "status", "msg", "loc", "@type"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.integers(300, 599), _JSON)
@example(422, {"detail": [{"loc": True, "msg": None}]})
def test_random_json_error_bodies_never_raise(status: int, body: Any) -> None:
    result = read_failure(status, {}, json.dumps(body).encode())
    assert result.message
    assert all(word is None or isinstance(word, str) for word in (result.code, result.param, result.type))


SEEN_IN_THE_WILD = [
    "0",
    "1",
    "-1",
    "nan",
    "inf",
    "1e999",
    "86400",
    "1 ",
    "\t2",
    "1,2",
    "Sun, 09 Sep 2001 01:46:45 GMT",
    "09 Sep 2001",
    "١٢",
    "+3",
    "0x10",
    "",
]


@given(
    st.one_of(st.sampled_from(SEEN_IN_THE_WILD), st.text(max_size=40), st.floats().map(str), st.integers().map(str)),
    st.one_of(st.none(), st.sampled_from(SEEN_IN_THE_WILD), st.text(max_size=40), st.floats().map(str)),
)
def test_retry_after_is_within_one_day_for_any_header(value: str, millis: str | None) -> None:
    headers = {"retry-after": value} if millis is None else {"retry-after": value, "retry-after-ms": millis}
    result = read_retry_after(headers, lambda: NOW)
    assert result is None or 0 <= result <= 86_400


@given(st.integers(0, 10**11))
def test_seconds_and_milliseconds_are_exact_up_to_a_day(number: int) -> None:
    assert read_retry_after({"retry-after": str(number)}) == min(number, 86_400)
    assert read_retry_after({"retry-after-ms": str(number)}) == pytest.approx(min(number, 86_400) / 1000)


@given(st.integers(-(10**6), 10**6))
def test_retry_after_date_becomes_seconds(offset: int) -> None:
    date = format_datetime(datetime.fromtimestamp(NOW + offset, UTC), usegmt=True)
    assert read_retry_after({"retry-after": date}, lambda: NOW) == min(max(0, offset), 86_400)


@given(st.text(max_size=30))
def test_google_retry_delay_is_bounded(delay: str) -> None:
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    result = fail(429, [{"error": {"code": 429, "message": "m", "details": [wait]}}]).retry_after
    assert result is None or 0 <= result <= 86_400


def test_reset_of_a_quota_is_read_from_the_body() -> None:
    failure = read_failure(429, {}, b'{"error":{"code":"quota_exhausted","message":"used up","resets_in_seconds":3600}}')
    assert (failure.kind, failure.retry_after) == ("quota", 3600.0)
