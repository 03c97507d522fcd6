"""Errors, headers and lists of models have Anthropic's format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.messages_api.dialect import is_messages_call
from gateway.dialects.messages_api.errors import duration_s, error_event, error_type, translate_error, translate_headers
from gateway.dialects.messages_api.models import page_of, to_model
from gateway.dialects.table import MESSAGES
from gateway.errors import BadRequest, refuse
from gateway.limits.refusal import go_duration


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (402, "billing_error"), (403, "permission_error"),
        (404, "not_found_error"), (405, "invalid_request_error"), (413, "request_too_large"), (429, "rate_limit_error"),
        (500, "api_error"), (502, "api_error"), (503, "overloaded_error"), (504, "timeout_error"), (529, "overloaded_error"),
    ],
)  # fmt: skip
def test_the_type_of_an_error_follows_from_its_status(status: int, kind: str) -> None:
    assert error_type(status) == kind


def test_an_error_keeps_its_code_its_receipt_and_the_callers_parameter() -> None:
    body = json.loads(refuse("stop", "'stop[0]' must be a string.", "invalid_type").as_body()) | {"gateway": {"model": "m"}}
    result = translate_error(400, json.dumps(body).encode(), "req_1", lambda name: name.replace("stop", "stop_sequences"))
    error = {
        "type": "invalid_request_error",
        "message": "'stop_sequences[0]' must be a string.",
        "param": "stop_sequences",
        "code": "invalid_type",
    }
    assert json.loads(result) == {"type": "error", "error": error, "request_id": "req_1", "gateway": {"model": "m"}}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error":null}', b'{"error":"gone"}', b"<html>"])
def test_an_error_of_any_form_becomes_an_error(body: bytes) -> None:
    error = json.loads(translate_error(500, body, None))
    assert (error["type"], error["error"]["type"]) == ("error", "api_error")
    assert error["error"]["message"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "upstream_timeout"}, "timeout_error"),
        ({"code": "upstream_overloaded"}, "overloaded_error"),
        ({"code": "rate_limit_exceeded"}, "rate_limit_error"),
        ({"type": "overloaded_error"}, "overloaded_error"),
        ({"type": "server_error", "code": None}, "api_error"),
    ],
)
def test_the_type_of_an_error_in_a_stream_follows_from_its_code(error: dict[str, Any], kind: str) -> None:
    event = error_event(json.dumps({"error": error}).encode(), None)
    name, data = event.strip().split(b"\n")
    assert (name, json.loads(data[6:])["error"]["type"]) == (b"event: error", kind)


def test_headers_have_anthropics_names() -> None:
    given = [
        (b"x-request-id", b"req_1"),
        (b"x-ratelimit-limit-requests", b"5"),
        (b"x-ratelimit-remaining-tokens", b"7"),
        (b"x-ratelimit-reset-tokens", b"1m30.5s"),
        (b"retry-after", b"2"),
    ]
    assert translate_headers(given, now=0.0) == [
        (b"request-id", b"req_1"),
        (b"x-request-id", b"req_1"),
        (b"anthropic-ratelimit-requests-limit", b"5"),
        (b"anthropic-ratelimit-tokens-remaining", b"7"),
        (b"anthropic-ratelimit-tokens-reset", b"1970-01-01T00:01:31Z"),
        (b"retry-after", b"2"),
    ]


@pytest.mark.parametrize("seconds", [0, 0.012, 1.5, 60, 3723.25, 90_000])
def test_durations_are_read_as_they_are_written(seconds: float) -> None:
    assert duration_s(go_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/v1/messages", [], True),
        ("/anthropic/v1/messages", [], True),
        ("/v1/messages/batches", [], True),
        ("/anthropic/v1/models", [], True),
        ("/messages", [], True),
        ("/v1/models", [], False),
        ("/v1/models", [(b"anthropic-version", b"2023-06-01")], True),
        ("/v1/chat/completions", [], False),
    ],
)
def test_callers_of_the_api_are_known_by_path_or_header(path: str, headers: Any, expected: bool) -> None:
    assert is_messages_call(path, headers) is expected
    assert "/v1/messages" in MESSAGES.paths


@pytest.mark.parametrize(
    ("query", "shown", "has_more"),
    [
        ({}, "abcde", False),
        ({"limit": "2"}, "ab", True),
        ({"limit": "2", "after_id": "b"}, "cd", True),
        ({"limit": "2", "after_id": "c"}, "de", False),
        ({"limit": "2", "before_id": "d"}, "bc", True),
        ({"limit": "9", "before_id": "c"}, "ab", False),
        ({"after_id": "a", "before_id": "d"}, "bc", False),
        ({"after_id": "e"}, "", False),
    ],
)
def test_models_are_listed_in_pages(query: dict[str, str], shown: str, has_more: bool) -> None:
    assert page_of("abcde", query) == (list(shown), has_more)


@pytest.mark.parametrize(
    ("query", "param"),
    [({"limit": "0"}, "limit"), ({"limit": "x"}, "limit"), ({"limit": "1001"}, "limit"), ({"after_id": "z"}, "after_id")],
)
def test_an_invalid_page_is_refused(query: dict[str, str], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        page_of("abc", query)
    assert refused.value.param == param


def test_a_model_has_anthropics_fields() -> None:
    model = to_model({"id": "m", "context_window": 1000})
    assert (model["type"], model["id"], model["max_input_tokens"], model["max_tokens"]) == ("model", "m", 1000, None)
