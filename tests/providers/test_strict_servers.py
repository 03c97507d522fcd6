"""Strict servers accept every adapted request, and callers get their answers and errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import providers
from providers.rules.rule import CANONICAL_PARAMS
from tests.providers.everything import EVERYTHING, WEATHER, everything_for
from tests.providers.gateway_process import Gateway, Way, chunks_of, receipt_of, running, way_of
from tests.providers.server import Reply, Upstream, data_events, stream_reply
from tests.providers.strict import facts_of, objections, refusal, strict_reply
from tests.providers.wires import NO_USAGE, chunk
from tests.support.each import each

MODELS = {
    "openai": "gpt-4.1",
    "openai_reasoning": "gpt-5",
    "azure": "my-deployment",
    "anthropic": "claude-sonnet-4-5",
    "deepseek": "deepseek-v4-pro",
    "xai": "grok-4.5",
    "groq": "openai/gpt-oss-120b",
    "cerebras": "llama3.1-70b",
}
SERVERS = [
    "goodfire", "siati", "cerebras", "fireworks", "friendli", "openai", "openai_reasoning", "azure", "anthropic", "gemini",
    "mistral", "groq", "together", "deepseek", "xai", "ollama", "vllm", "llamacpp", "cohere",
]  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {"azure": {"base_model": "gpt-4.1"}}
WITHOUT_TOOLS = {"goodfire"}
HI = [{"role": "user", "content": "Hi"}]


def _way(server: str) -> Way:
    return way_of(server, MODELS.get(server, "example"), SETTINGS.get(server))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    upstream = Upstream(lambda _: Reply(500))
    with running([_way(server) for server in SERVERS], upstream, tmp_path_factory.mktemp("gateway")) as result:
        yield result
    upstream.close()


@pytest.fixture
def strict(gateway: Gateway) -> Callable[[str], Way]:
    def answer_as(server: str) -> Way:
        way = _way(server)
        gateway.upstream.answer = lambda request: strict_reply(server, way.kind, request)
        return way

    return answer_as


def test_the_request_has_every_canonical_parameter() -> None:
    assert set(EVERYTHING) | {"model", "stream"} == CANONICAL_PARAMS | {"frobnicate"}


def test_every_type_with_known_fields_has_a_strict_server() -> None:
    served = {_way(server).kind for server in SERVERS}
    assert set(providers.types()) - served == {"local", "openai-compatible", "openrouter"}


@each("server", SERVERS)
def test_strict_server_rejects_the_original_request(server: str) -> None:
    body = {"model": "m", **EVERYTHING, "messages": [{"role": "oracle", "content": [{"type": "text", "text": "Hi"}]}], "tools": []}
    if facts_of(server).get("unknown") == "ignore" and not facts_of(server).get("needs"):
        body["top_p"] = 1.0  # llama.cpp's server accepts any field
        assert list(objections(server, body)) == []
    else:
        assert list(objections(server, body)) != []


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("server", SERVERS)
def test_request_with_every_parameter_is_adapted(gateway: Gateway, strict: Callable[[str], Way], server: str, stream: bool) -> None:
    way = strict(server)
    request = {**everything_for(way.kind), "stream": stream}
    response = gateway.ask(way, request)
    assert response.status_code == 200, response.text
    adjusted = {entry["param"] for entry in receipt_of(response)["adjustments"]}
    sent = min(gateway.upstream.taken(), key=lambda one: json.dumps(one.body.get("seed")))  # the first of several requests
    untold = [name for name in request if name not in sent.body and name not in adjusted and name not in ("messages", "model", "stop")]
    assert untold == [], "every dropped parameter is reported"
    for name in request:
        if name in sent.body and name not in ("model", "messages") and sent.body[name] != request[name]:
            assert name in adjusted or "functions" in adjusted, f"{name} was changed silently"


@pytest.mark.parametrize("server", SERVERS)
def test_caller_gets_a_plain_answer(gateway: Gateway, strict: Callable[[str], Way], server: str) -> None:
    body = gateway.ask(strict(server), {"messages": HI}, receipt=False).json()
    choice = body["choices"][0]
    assert (body["object"], choice["message"]["content"], choice["finish_reason"]) == ("chat.completion", "Hello there", "stop")
    assert isinstance(body["created"], int)
    if _way(server).kind not in NO_USAGE:
        assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (5, 2)


@pytest.mark.parametrize("server", SERVERS)
def test_caller_gets_an_openai_stream(gateway: Gateway, strict: Callable[[str], Way], server: str) -> None:
    request = {"messages": HI, "stream": True, "stream_options": {"include_usage": True}}
    response = gateway.ask(strict(server), request, receipt=False)
    chunks = chunks_of(response)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "Hello there"
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"] is not None] == ["stop"]
    assert sum(choice["delta"].get("role") == "assistant" for choice in choices) == 1
    assert response.text.endswith("data: [DONE]\n\n")
    assert all(chunk["object"] == "chat.completion.chunk" and isinstance(chunk["created"], int) for chunk in chunks)
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    if _way(server).kind in NO_USAGE:
        return
    assert [(usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) for usage in usages] == [(5, 2, 7)]
    assert chunks[-1]["choices"] == []


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("server", [server for server in SERVERS if server not in WITHOUT_TOOLS])
def test_caller_gets_a_complete_tool_call(gateway: Gateway, strict: Callable[[str], Way], server: str, stream: bool) -> None:
    request = {"messages": HI, "tools": [WEATHER], "stream": stream}
    response = gateway.ask(strict(server), request, receipt=False)
    if stream:
        choices = [choice for item in chunks_of(response) for choice in item["choices"]]
        pieces = [call for choice in choices for call in choice["delta"].get("tool_calls") or ()]
        assert {piece["index"] for piece in pieces} == {0}
        name = "".join(piece["function"].get("name") or "" for piece in pieces)
        arguments = "".join(piece["function"].get("arguments") or "" for piece in pieces)
        call_id, reason = pieces[0]["id"], choices[-1]["finish_reason"]
    else:
        choice = response.json()["choices"][0]
        call, reason = choice["message"]["tool_calls"][0], choice["finish_reason"]
        call_id, name, arguments = call["id"], call["function"]["name"], call["function"]["arguments"]
    assert (name, json.loads(arguments), reason) == ("get_weather", {"city": "Bern"}, "tool_calls")
    assert isinstance(call_id, str)
    assert call_id not in ("", "null")


@each("server", SERVERS)
@each(
    ("status", "seen", "code"),
    [(401, 502, "upstream_auth_error"), (429, 429, "rate_limit_exceeded"), (500, 502, "upstream_error"), (503, 503, "upstream_overloaded")],
)
def test_errors_are_classified_alike_for_every_provider(gateway: Gateway, server: str, status: int, seen: int, code: str) -> None:
    reply = refusal(server, status, None, "Sorry")._replace(headers={"retry-after": "7"})
    gateway.upstream.answer = lambda _: reply
    response = gateway.ask(_way(server), {"messages": HI}, receipt=False)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (seen, code)
    assert "Sorry" in error["message"]
    if status in (429, 503):
        assert response.headers["retry-after"] == "7"


@each("server", SERVERS)
def test_upstream_400_keeps_its_message(gateway: Gateway, server: str) -> None:
    reply = refusal(server, 400, "temperature", "too hot")
    gateway.upstream.answer = lambda _: reply
    response = gateway.ask(_way(server), {"messages": HI}, receipt=False)
    assert response.status_code == reply.status
    assert "too hot" in response.json()["error"]["message"]
    assert response.json()["error"]["type"] == "invalid_request_error"


@each("server", [server for server in SERVERS if server not in ("anthropic", "cohere")])
def test_error_inside_a_stream_fails_the_call(gateway: Gateway, server: str) -> None:
    broken = {"error": {"message": "broke off", "type": "server_error", "code": None, "param": None}, "status_code": 500}
    reply = stream_reply(data_events([chunk({"role": "assistant", "content": "A"}), broken], done=False))
    gateway.upstream.answer = lambda _: reply
    response = gateway.ask(_way(server), {"messages": HI, "stream": True}, receipt=False)
    assert response.status_code == 502
    assert "broke off" in response.json()["error"]["message"]
