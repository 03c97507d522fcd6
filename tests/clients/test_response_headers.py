"""Response headers that clients rely on: request ids, retry-after and the headers of the gateway."""

from __future__ import annotations

import time

import openai
import pytest

from tests.clients.conftest import HELLO, Front
from tests.faults.upstream_server import canned, status

ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)


def test_each_answer_has_its_own_request_id(client: openai.OpenAI, front: Front) -> None:
    ids = [client.chat.completions.create(model="chat", messages=HELLO)._request_id for _ in range(3)]
    ids.append(client.models.list()._request_id)
    assert all(ids)
    assert len(set(ids)) == 4


def test_streams_and_errors_have_a_request_id(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="chat", messages=HELLO, stream=True)
    assert stream.response.headers["x-request-id"]
    list(stream)
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nothing", messages=HELLO)
    assert caught.value.request_id


def test_the_request_id_of_the_caller_is_logged(client: openai.OpenAI, front: Front) -> None:
    answer = client.chat.completions.with_raw_response.create(model="chat", messages=HELLO, extra_headers={"x-request-id": "caller-4711"})
    returned = answer.headers["x-request-id"]
    if returned != "caller-4711":
        deadline = time.monotonic() + 20
        while not (linked := [record for record in front.gateway.records() if "caller-4711" in record.values()]):
            assert time.monotonic() < deadline, front.gateway.output
            time.sleep(0.05)
        assert returned in linked[0].values()


def test_retry_after_of_an_upstream_is_returned(client: openai.OpenAI, front: Front) -> None:
    front.upstream.on("/v1/chat/completions", status(429, headers={"retry-after": "7"}, code="rate_limit_exceeded"))
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="limited-for-seconds", messages=HELLO)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 10
    assert caught.value.code == "rate_limit_exceeded"


def test_a_long_retry_after_is_returned_without_waiting(client: openai.OpenAI, front: Front) -> None:
    front.upstream.on("/v1/chat/completions", status(429, headers={"retry-after": "3600"}, code="rate_limit_exceeded"))
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="limited-for-an-hour", messages=HELLO)
    assert time.monotonic() - began < 20
    assert int(caught.value.response.headers["retry-after"]) >= 60


def test_headers_state_target_attempts_and_timing(front: Front) -> None:
    response = front.post({"model": "chat", "messages": HELLO})
    assert response.headers["x-gateway-target"] == "up/mock"
    assert response.headers["x-gateway-attempts"] == "1"
    assert "server-timing" in response.headers


def test_only_listed_upstream_headers_are_returned(front: Front) -> None:
    headers = {
        "set-cookie": "session=upstream",
        "server": "upstream-server",
        "openai-organization": "ours",
        "x-ratelimit-remaining-requests": "41",
        "x-request-id": "upstream-id-9",
    }
    front.upstream.once(canned(ANSWER, headers=headers))
    response = front.post({"model": "chat", "messages": HELLO})
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
    assert "openai-organization" not in response.headers
    assert response.headers.get("server") != "upstream-server"
    assert response.headers["x-upstream-ratelimit-remaining-requests"] == "41"
    assert response.headers["x-upstream-request-id"] == "upstream-id-9"
    assert response.headers["x-request-id"] != "upstream-id-9"


def test_no_response_reveals_the_upstream_credential(front: Front) -> None:
    response = front.post({"model": "chat", "messages": HELLO})
    assert "upstream-credential" not in str(response.headers) + response.text
    assert front.upstream.requests[0].header("authorization") == "Bearer upstream-credential-c4a1"
