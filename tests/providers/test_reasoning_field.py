"""Reasoning of an answer is in `reasoning_content` for every vendor, so a fallback does not change the field's name."""

from __future__ import annotations

import json
from typing import Any

from providers.base import Options
from tests.providers.adapting import target_for
from tests.support.each import each

KINDS = ("cerebras", "groq", "ollama", "vllm", "together", "openrouter", "openai-compatible", "fireworks", "siati")
FRAME = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def chunk(delta: dict[str, Any]) -> bytes:
    """Return a chunk with one choice."""
    return json.dumps({**FRAME, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}).encode()


@each("kind", KINDS)
def test_json_answer_has_reasoning_under_both_names(kind: str) -> None:
    message = {"role": "assistant", "content": "A", "reasoning": "hm"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    target = target_for(kind)
    answer = target.kind.decode(json.dumps({**FRAME, "object": "chat.completion", "choices": [choice]}).encode(), target, Options())
    assert json.loads(answer.body)["choices"][0]["message"] == {**message, "reasoning_content": "hm"}


@each("kind", KINDS)
def test_every_chunk_has_reasoning_under_both_names(kind: str) -> None:
    target = target_for(kind)
    decoder = target.kind.decoder(target, Options(stream=True))
    assert decoder is not None
    deltas = [{"content": "A"}, {"content": "B"}, *({"content": "", "reasoning": f"hm{number}"} for number in range(3)), {"reasoning": "x"}]
    chunks = [json.loads(piece) for delta in deltas for piece in decoder.feed("", chunk(delta))]
    seen = [item["choices"][0]["delta"] for item in chunks]
    assert [delta.get("reasoning_content") for delta in seen] == [delta.get("reasoning") for delta in deltas]
    assert [delta.get("reasoning") for delta in seen] == [delta.get("reasoning") for delta in deltas]


def test_an_answer_with_reasoning_content_keeps_its_bytes() -> None:
    target = target_for("deepseek")
    message = {"role": "assistant", "content": "A", "reasoning_content": "hm"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({**FRAME, "object": "chat.completion", "choices": [choice]}).encode()
    assert target.kind.decode(body, target, Options()).body == body
