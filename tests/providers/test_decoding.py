"""Answers and streams with a vendor's quirks become OpenAI's. Others keep their bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.base import Options, StreamFailure
from providers.cerebras import CEREBRAS
from providers.goodfire import GoodfireChunks
from providers.usage import read_usage
from tests.providers.adapting import target_for
from tests.providers.wires import answer, chunk
from tests.support.each import each

STREAM = Options(stream=True)


def decode(kind: str, value: Any) -> Any:
    """Return the Answer for a JSON value."""
    target = target_for(kind)
    return target.kind.decode(json.dumps(value).encode(), target, Options())


def feed(kind: str, *events: Any, names: tuple[str, ...] = ()) -> list[Any]:
    """Return the chunks for some events."""
    target = target_for(kind)
    decoder = target.kind.decoder(target, STREAM)
    assert decoder is not None
    out: list[Any] = []
    for index, event in enumerate(events):
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        out += decoder.feed(names[index] if names else "", data)
    return [item if item == b"[DONE]" else json.loads(item) for item in out]


@each("kind", ["openai", "vllm", "openai-compatible", "siati", "cerebras", "groq"])
def test_answer_without_quirks_keeps_its_bytes(kind: str) -> None:
    target = target_for(kind)
    source = (
        b'{ "id":"x", "object":"chat.completion", "created":7, "model":"m", "choices":[ {"index":0,"message":{'
        b'"role":"assistant","content":"\\u00e9"},"finish_reason":"stop","extra":1} ] , "new_field":{} }'
    )
    assert target.kind.decode(source, target, Options()).body == source


@each(
    "usage",
    [
        None, "x", [], {}, {"prompt_tokens": 1}, {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": "one", "completion_tokens": 1}, {"prompt_tokens": 1, "completion_tokens": 10**12},
        {"prompt_tokens": None, "completion_tokens": 1}, {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1}, {"total_tokens": -3},
    ],
)  # fmt: skip
def test_implausible_usage_counts_as_not_reported(usage: Any) -> None:
    assert read_usage(usage) is None
    assert decode("openai", answer({"content": "A"}, "stop", usage=usage)).usage is None


def test_usage_includes_cached_and_reasoning_tokens() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 3}}
    result = read_usage({"prompt_tokens": 10, "completion_tokens": 5, **details})
    assert result is not None
    assert (result.prompt_tokens, result.completion_tokens, result.cached_tokens, result.reasoning_tokens) == (10, 5, 4, 3)


def test_cached_tokens_are_limited_to_prompt_tokens() -> None:
    result = read_usage({"prompt_tokens": 2, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4000}})
    assert result is not None
    assert result.cached_tokens == 2


def test_reasoning_tokens_counted_separately_are_added() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 7}}
    apart = decode(
        "xai", answer({"content": "A"}, "stop", usage={"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 12, **details})
    )
    within = decode(
        "xai", answer({"content": "A"}, "stop", usage={"prompt_tokens": 2, "completion_tokens": 9, "total_tokens": 11, **details})
    )
    assert (apart.usage.completion_tokens, within.usage.completion_tokens) == (10, 9)


def test_answer_with_an_error_finish_is_rejected() -> None:
    with pytest.raises(StreamFailure, match="ended the answer with an error"):
        decode("mistral", answer({"content": "A"}, "error"))
    with pytest.raises(StreamFailure):
        feed("mistral", chunk({"content": "A"}, "error"))


def test_mistral_thinking_becomes_reasoning_content() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "A"}]
    result = json.loads(decode("mistral", answer({"content": parts}, "stop")).body)["choices"][0]["message"]
    assert (result["content"], result["reasoning_content"]) == ("A", "hm")


def test_together_logprobs_become_openai_logprobs() -> None:
    source = answer({"content": "AB"}, "eos")
    source["choices"][0]["logprobs"] = {"tokens": ["A", "B"], "token_logprobs": [-0.5, None], "top_logprobs": [{"A": -0.5, "C": -2.0}]}
    result = json.loads(decode("together", source).body)["choices"][0]["logprobs"]["content"]
    assert [(entry["token"], entry["logprob"]) for entry in result] == [("A", -0.5), ("B", -9999.0)]
    assert [entry["token"] for entry in result[0]["top_logprobs"]] == ["A", "C"]
    [streamed] = feed("together", {**chunk({"content": "A"}), "choices": [{"index": 0, "delta": {"content": "A"}, "logprobs": -0.25}]})
    assert streamed["choices"][0]["logprobs"]["content"][0]["logprob"] == -0.25


def test_chunk_without_quirks_keeps_its_bytes() -> None:
    source = (
        b'{ "id":"x", "object":"chat.completion.chunk","created":7,"model":"m", "choices":[{"index":0,"delta":{"role":"assistant"}}] }'
    )
    for kind in ("openai", "gemini", "friendli", "mistral", "groq", "fireworks", "cerebras", "deepseek"):
        target = target_for(kind)
        decoder = target.kind.decoder(target, STREAM)
        assert decoder is not None
        assert list(decoder.feed("", source)) == [source]
        later = source.replace(b'"role":"assistant"', b'"content":"A"')
        assert list(decoder.feed("", later)) == [later]


def test_cerebras_error_chunk_keeps_its_status() -> None:
    with pytest.raises(StreamFailure) as failed:
        feed("cerebras", {"error": {"message": "busy", "code": "too_many"}, "status_code": 429})
    assert (failed.value.failure.kind, failed.value.failure.status, failed.value.failure.message) == ("rate_limit", 429, "busy")


def test_cerebras_chunks_get_missing_choices_and_delta() -> None:
    assert CEREBRAS.wire.chunk_repairs == (), "what every stream gets is enough"
    result = feed("cerebras", {"id": "x", "usage": {}, "time_info": {}}, {"choices": [{"index": 0, "finish_reason": "stop"}]})
    assert result[0]["choices"] == []
    assert result[1]["choices"][0]["delta"] == {"role": "assistant"}


def test_repeated_goodfire_tokens_are_removed() -> None:
    decoder = GoodfireChunks(clock=lambda: 5.0)

    def piece(index: int, token: int, text: str) -> bytes:
        return json.dumps(
            {"created": None, "choices": [{"index": index, "gf_token_index": token, "delta": {"role": "assistant", "content": text}}]}
        ).encode()

    sent = [piece(0, 0, "A"), piece(1, 0, "X"), piece(0, 0, "A"), piece(0, 1, "B"), piece(1, 1, "Y"), piece(1, 0, "X")]
    result = [json.loads(item) for data in sent for item in decoder.feed("", data)]
    assert [(item["choices"][0]["index"], item["choices"][0]["delta"]["content"]) for item in result] == [
        (0, "A"),
        (1, "X"),
        (0, "B"),
        (1, "Y"),
    ]
    assert [item["choices"][0]["delta"].get("role") for item in result] == ["assistant", "assistant", None, None]
    assert {item["created"] for item in result} == {5}
    [finished] = [json.loads(item) for item in decoder.end()]
    assert [(item["index"], item["finish_reason"]) for item in finished["choices"]] == [(0, "stop"), (1, "stop")]
