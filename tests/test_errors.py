"""Refusals as sent to callers: OpenAI's error object, and a status and a code for every way an upstream can fail."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import FAILURES, BadRequest, GatewayError, RequestTooLarge, Unavailable, from_failure, from_refusal, retry_after_headers
from providers.base import Failure, FailureKind, Refusal
from tests.support.each import each

KINDS = get_args(FailureKind)


@given(st.text(), st.none() | st.text(), st.text())
def test_every_error_is_openais_object(message: str, param: str | None, code: str) -> None:
    body = msgspec.json.decode(BadRequest(message, param=param, code=code).as_body())
    assert body == {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def test_an_error_event_is_the_same_object_and_no_done() -> None:
    error = GatewayError("no\nway")
    assert error.as_event() == b"data: " + error.as_body() + b"\n\n"
    assert b"\n" not in error.as_body()


def test_every_failure_kind_has_a_status_and_code() -> None:
    assert set(FAILURES) == set(KINDS)
    stopped = {kind for kind, one in FAILURES.items() if one.then == "stop"}
    assert stopped <= {kind for kind, one in FAILURES.items() if one.blame == "caller"}


@given(st.sampled_from(KINDS), st.integers(0, 599), st.none() | st.text(max_size=9), st.none() | st.floats(0, 86400))
def test_a_failure_is_never_answered_as_success_nor_as_the_callers_missing_key(
    kind: FailureKind, status: int, code: str | None, retry_after: float | None
) -> None:
    is_callers = FAILURES[kind].blame == "caller"
    failure = Failure(kind, "why", 400 + status % 22 if is_callers else status, code, retry_after=retry_after)
    error = from_failure(failure, "a/x")
    assert 400 <= error.status < 600
    assert is_callers or error.status not in (401, 403)
    decoded = msgspec.json.decode(error.as_body())["error"]
    assert set(decoded) == {"message", "type", "param", "code"}
    if error.status in (429, 503) and kind != "quota":
        assert b"retry-after" in dict(error.headers)


def test_an_upstreams_own_4xx_keeps_its_words() -> None:
    failure = Failure("client_error", "too long", 400, "context_length_exceeded", "messages", "invalid_request_error")
    error = from_failure(failure, "a/x")
    assert (error.status, error.code, error.param, error.message) == (400, "context_length_exceeded", "messages", "too long")


@each(("kind", "status", "seen", "code"), [
    ("rate_limit", 429, 429, "rate_limit_exceeded"),
    ("quota", 402, 429, "insufficient_quota"),
    ("auth", 401, 502, "upstream_auth_error"),
    ("overloaded", 529, 503, "upstream_overloaded"),
    ("server_error", 500, 502, "upstream_error"),
    ("server_error", 504, 504, "upstream_error"),
    ("connect", 0, 502, "upstream_connect_error"),
    ("connect_timeout", 0, 504, "upstream_connect_timeout"),
    ("crashed", 0, 503, "engine_crashed"),
    ("model_not_found", 404, 404, "model_not_found"),
    ("path_not_found", 404, 502, "upstream_path_not_found"),
])  # fmt: skip
def test_what_callers_see_of_a_failure(kind: FailureKind, status: int, seen: int, code: str) -> None:
    error = from_failure(Failure(kind, "why", status), "a/x")
    assert (error.status, error.code) == (seen, code)
    assert error.message.startswith("a/x: ")


def test_an_exhausted_quota_is_not_worth_retrying() -> None:
    assert dict(from_failure(Failure("quota", "spent", 429), "a/x").headers)[b"x-should-retry"] == b"false"


@pytest.mark.parametrize("status", [402, 429])
def test_exhausted_quota_has_a_retry_after_only_if_the_upstream_sends_one(status: int) -> None:
    assert b"retry-after" not in dict(from_failure(Failure("quota", "spent", status), "a/x").headers)
    assert dict(from_failure(Failure("quota", "spent", status, retry_after=40.0), "a/x").headers)[b"retry-after"] == b"40"


@given(st.floats(0, 86_400))
def test_retry_after_is_whole_and_never_zero(seconds: float) -> None:
    headers = dict(retry_after_headers(seconds))
    assert 1 <= int(headers[b"retry-after"]) <= 86_400
    assert int(headers[b"retry-after"]) >= seconds
    assert int(headers[b"retry-after-ms"]) >= 1


def test_refusals_name_their_parameter() -> None:
    error = from_refusal(Refusal("no", "top_k", "unsupported_parameter"))
    assert (error.status, error.param, error.code) == (400, "top_k", "unsupported_parameter")


def test_a_body_too_large_closes_the_connection_and_unavailable_says_when() -> None:
    assert (b"connection", b"close") in RequestTooLarge(5).headers
    assert (b"retry-after", b"3") in Unavailable("busy", retry_after=2.5).headers


def test_the_page_on_failures_has_the_table_as_it_is() -> None:
    page = (Path(__file__).parents[1] / "docs" / "failures.md").read_text()
    again = {True: "", False: "no"}
    rows = [f"| `{kind}` | {one.status} `{one.code}` | {one.then} | {one.blame} | {again[one.again]} |" for kind, one in FAILURES.items()]
    assert [line for line in page.partition("<!-- failures -->")[2].partition("\n- ")[0].splitlines() if line.startswith("| `")] == rows
