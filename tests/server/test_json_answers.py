"""JSON answers of the callers' endpoints name the request id as the caller's API does."""

from __future__ import annotations

import json

import pytest
from starlette.requests import Request

from gateway.server.json_answers import json_answer


def request(path: str, *headers: tuple[bytes, bytes]) -> Request:
    """Return a GET request."""
    return Request({"type": "http", "method": "GET", "path": path, "headers": list(headers), "query_string": b""})


@pytest.mark.parametrize(
    ("asked", "is_anthropic"),
    [
        (request("/v1/models"), False),
        (request("/v1/models", (b"anthropic-version", b"2023-06-01")), True),
        (request("/anthropic/v1/models"), True),
        (request("/v1/messages/count_tokens"), True),
    ],
)
def test_the_request_id_has_the_names_of_the_callers_api(asked: Request, is_anthropic: bool) -> None:
    answer = json_answer(asked, {"a": [1]}, {"cache-control": "no-store"})
    assert json.loads(bytes(answer.body)) == {"a": [1]}
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers.get("request-id") == (answer.headers["x-request-id"] if is_anthropic else None)
