"""Errors of the gateway have the format of OpenAI, and the openai package raises them as its exceptions."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from tests.clients.conftest import HELLO, LIMITED_KEY, Front
from tests.support.plain_http import WITHOUT_AUTHORITIES


def assert_error_shape(response: httpx.Response) -> dict[str, Any]:
    """Check format and request id of an error response. Return its error object."""
    assert response.headers["content-type"].startswith("application/json")
    assert response.headers["x-request-id"]
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert "Traceback" not in response.text
    return error


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status"),
    [
        ("GET", "/v1/nothing-here", {}, b"", 404),
        ("GET", "/nothing-here", {}, b"", 404),
        ("GET", "/v1/chat/completions", {}, b"", 405),
        ("DELETE", "/v1/models", {}, b"", 405),
        ("POST", "/v1/chat/completions", {"content-type": "text/plain"}, b"hello", 415),
        ("POST", "/v1/chat/completions", {"content-type": "application/x-www-form-urlencoded"}, b"model=chat", 415),
        ("POST", "/v1/chat/completions", {}, b"x" * 1_100_000, 413),
        ("POST", "/v1/chat/completions", {}, b"{'model': 'chat'}", 400),
        ("POST", "/v1/chat/completions", {}, b"", 400),
        ("POST", "/v1/chat/completions", {}, b'["model", "chat"]', 400),
        ("POST", "/v1/chat/completions", {}, b'"chat"', 400),
        ("POST", "/v1/chat/completions", {}, b"null", 400),
        ("POST", "/v1/chat/completions", {}, b"[" * 100_000, 400),
        ("POST", "/v1/chat/completions", {}, b'{"model": "chat", "messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
    ],
    ids=[
        "unknown path under v1", "unknown path", "wrong method", "wrong method on models", "text body", "form body", "too large",
        "not json", "empty", "array", "string", "null", "unclosed nesting", "deep nesting",
    ],
)  # fmt: skip
def test_every_refusal_has_the_format_of_an_openai_error(
    front: Front, method: str, path: str, headers: dict[str, str], content: bytes, status: int
) -> None:
    response = httpx.request(
        method, front.gateway.url + path, headers=front.headers(**headers), content=content, timeout=30, trust_env=False,
        verify=WITHOUT_AUTHORITIES,
    )  # fmt: skip
    assert response.status_code == status, response.text
    assert_error_shape(response)
    assert front.upstream.requests == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/models/chat", "/v1/nothing-here"])
@pytest.mark.parametrize("credential", [None, "Bearer wrong", "Bearer", "Basic YTpi", "sk-lockgate-clients-5f0c1d"])
def test_every_path_requires_a_valid_key(front: Front, path: str, credential: str | None) -> None:
    headers = {"content-type": "application/json", **({"authorization": credential} if credential else {})}
    method = "POST" if path.endswith("completions") else "GET"
    body = b'{"model": "chat", "messages": [{"role": "user", "content": "hello"}]}' if method == "POST" else b""
    url, plain = front.gateway.url + path, {"verify": WITHOUT_AUTHORITIES, "trust_env": False, "timeout": 30}
    response = httpx.request(method, url, headers=headers, content=body, **plain)
    assert response.status_code == 401, response.text
    assert assert_error_shape(response)["code"] == "invalid_api_key"
    assert front.upstream.requests == []


def test_a_wrong_key_is_an_authentication_error(front: Front) -> None:
    with (
        openai.OpenAI(base_url=front.gateway.base_url, api_key="sk-unknown", max_retries=0) as unknown_client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        unknown_client.models.list()
    assert caught.value.code == "invalid_api_key"
    assert "sk-unknown" not in str(caught.value)


def test_a_key_is_restricted_to_its_models(front: Front) -> None:
    with openai.OpenAI(base_url=front.gateway.base_url, api_key=LIMITED_KEY, max_retries=0) as limited:
        assert limited.chat.completions.create(model="other", messages=HELLO).choices[0].message.content
        with pytest.raises(openai.APIStatusError) as caught:
            limited.chat.completions.create(model="chat", messages=HELLO)
        assert caught.value.status_code in (403, 404)
        assert {model.id for model in limited.models.list()} == {"other"}


def test_an_unknown_model_is_named_in_the_error(client: openai.OpenAI, front: Front) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-17", messages=HELLO)
    assert caught.value.code == "model_not_found"
    assert "gpt-17" in caught.value.message
    assert front.upstream.requests == []


def test_retrieving_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-17")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("temperature", "hot", "temperature"),
        ("max_tokens", 0, "max_tokens"),
        ("max_tokens", 1.5, "max_tokens"),
        ("n", -1, "n"),
        ("stop", 7, "stop"),
        ("stream", "yes", "stream"),
        ("top_logprobs", True, "top_logprobs"),
        ("messages", "hello", "messages"),
        ("messages", [{"content": "hello"}], "messages[0].role"),
        ("tools", {}, "tools"),
        ("response_format", "json", "response_format"),
    ],
)
def test_an_invalid_value_is_refused_and_names_the_parameter(
    client: openai.OpenAI, front: Front, field: str, value: Any, param: str
) -> None:
    arguments: dict[str, Any] = {"model": "chat", "messages": HELLO}
    arguments.pop(field, None)
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", cast_to=object, body={**arguments, field: value})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert front.upstream.requests == []
