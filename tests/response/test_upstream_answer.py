"""JSON answers and errors that are not quite valid JSON are read, in every provider's format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.cohere_api.native import NATIVE as COHERE
from gateway.dialects.messages_api.native import NATIVE as MESSAGES
from gateway.dialects.native_api import NativeApi
from gateway.dialects.responses_api.native import NATIVE as RESPONSES
from gateway.response.upstream_answer import read_failure, read_json
from providers.base import Options, StreamFailure
from tests.providers.adapting import target_for
from tests.support.scripted import ScriptedResponse

KINDS = (
    "azure", "cerebras", "deepseek", "fireworks", "friendli", "gemini", "groq", "llamacpp", "mistral", "ollama", "openai",
    "openai-compatible", "openrouter", "siati", "together", "vllm", "xai",
)  # fmt: skip
HALF = "a\ud83d"


def answer(**choice: Any) -> bytes:
    """Return a chat completion as a Python server writes it."""
    first = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a"}, **choice}
    return json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [first]}).encode()


async def read(kind: str, body: bytes, **more: Any) -> Any:
    """Return the answer that the caller gets."""
    read = await read_json(ScriptedResponse([body]), target_for(kind), Options(), 1 << 20, **more)
    return json.loads(read.body.decode(), parse_constant=lambda word: pytest.fail(word))


async def test_half_characters_of_an_answer_are_replaced() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":"\ud83d"}'}}
    message = {"role": "assistant", "content": HALF, "reasoning_content": HALF + "b", "tool_calls": [call]}
    for kind in KINDS:
        got = (await read(kind, answer(message=message, finish_reason="tool_calls")))["choices"][0]["message"]
        assert (got["content"], got["reasoning_content"]) == ("a\ufffd", "a\ufffdb"), kind
        assert got["tool_calls"][0]["function"]["arguments"] == '{"a":"\ufffd"}', kind


async def test_log_probabilities_that_are_not_finite_are_very_unlikely() -> None:
    token = {"token": "a", "logprob": float("-inf"), "bytes": None, "top_logprobs": []}
    for kind in KINDS:
        got = (await read(kind, answer(logprobs={"content": [token]}, score=float("nan"))))["choices"][0]
        assert got["logprobs"]["content"][0]["logprob"] == -9999.0, kind
        assert got["score"] is None, kind


async def test_half_characters_in_anthropics_and_coheres_answers_are_replaced() -> None:
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": None}
    message |= {"content": [{"type": "text", "text": HALF}], "usage": {"input_tokens": 1, "output_tokens": 1}}
    got = await read("anthropic", json.dumps(message).encode())
    assert got["choices"][0]["message"]["content"] == "a\ufffd"
    assert (await read("anthropic", json.dumps(message).encode(), native=MESSAGES))["content"][0]["text"] == "a\ufffd"
    cohere = {"id": "c", "finish_reason": "COMPLETE", "message": {"role": "assistant", "content": [{"type": "text", "text": HALF}]}}
    assert (await read("cohere", json.dumps(cohere).encode()))["choices"][0]["message"]["content"] == "a\ufffd"


async def test_native_response_is_mended() -> None:
    output = [{"type": "message", "id": "i", "role": "assistant", "content": [{"type": "output_text", "text": HALF}]}]
    body = json.dumps({"id": "r", "object": "response", "status": "completed", "output": output}).encode()
    assert (await read("openai", body, native=RESPONSES))["output"][0]["content"][0]["text"] == "a\ufffd"


@pytest.mark.parametrize("body", [b'{"choices":NaN}', b'{"choices":[NaN', b'{"choices":[],"a":"\\ud83d"}'])
async def test_answer_that_cannot_be_mended_fails(body: bytes) -> None:
    with pytest.raises(StreamFailure) as failed:
        await read("vllm", body)
    assert failed.value.failure.kind == "bad_body"


async def test_words_and_code_of_an_error_are_read() -> None:
    for error in ({"message": "slow \ud83d"}, {"message": "slow \ufffd", "x": float("nan")}):
        error["code"] = "rate_limit_exceeded"
        response = ScriptedResponse([json.dumps({"error": error}).encode()], status=400)
        failure = await read_failure(response, target_for("vllm"), 1 << 16)
        assert (failure.message, failure.code) == ("slow \ufffd", "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("api", "kind", "what"),
    [(MESSAGES, "anthropic", "a message"), (RESPONSES, "openai", "a response"), (COHERE, "cohere", "a message of Cohere's chat API")],
)
@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"choices":[]}', b"not json"])
async def test_an_unreadable_answer_is_named_in_the_words_of_its_api(api: NativeApi, kind: str, what: str, body: bytes) -> None:
    with pytest.raises(StreamFailure) as failed:
        await read_json(ScriptedResponse([body]), target_for(kind), Options(operation=api.operation), 1 << 20, native=api)
    assert failed.value.failure.message.partition(":")[0] == f"the answer is not {what}"
