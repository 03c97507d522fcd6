"""providers.local.probabilities against the real engine: exact, however they are requested."""

from __future__ import annotations

import math
from typing import Any

import httpx
import msgspec
import pytest

from providers.base import Probabilities
from providers.local.probabilities import find_probabilities

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Name the capital of France in one word."},
]
VOCABULARY = ["Paris", "The", "London", " Paris", "Berlin"]


async def carry_out(
    client: httpx.AsyncClient, top_k: int | None, vocabulary: list[str] | None, messages: list[dict[str, str]] = MESSAGES
) -> Probabilities:
    """Run the steps with the real engine."""
    steps = find_probabilities(messages, top_k, vocabulary)
    request = next(steps)
    while True:
        response = await client.post(request.path, content=request.body, headers=dict(request.headers))
        assert response.status_code == 200, response.text
        try:
            request = steps.send(response.content)
        except StopIteration as end:
            result: Probabilities = end.value
            return result


async def whole_distribution(client: httpx.AsyncClient) -> dict[int, float]:
    """Return every token's probability from the full vocabulary, which is slow."""
    prompt = (await client.post("/apply-template", json={"messages": MESSAGES})).json()["prompt"]
    answer = await client.post("/completion", json={"prompt": prompt, "n_predict": 1, "n_probs": 49152, "temperature": 0})
    listed: list[dict[str, Any]] = answer.json()["completion_probabilities"][0]["top_logprobs"]
    return {item["id"]: math.exp(item["logprob"]) for item in listed}


async def first_token(client: httpx.AsyncClient, text: str) -> int:
    """Return the id of a text's first token."""
    tokens: list[int] = (await client.post("/tokenize", json={"content": text, "add_special": False})).json()["tokens"]
    return tokens[0]


@pytest.mark.asyncio(loop_scope="session")
async def test_candidate_probabilities_equal_the_full_distribution(engine_client: Any) -> None:
    async with engine_client() as client:
        client.timeout = httpx.Timeout(60)
        result = await carry_out(client, None, VOCABULARY)
        everything = await whole_distribution(client)
        for entry in VOCABULARY:
            assert result.by_token[entry] == pytest.approx(everything[await first_token(client, entry)], abs=1e-5)
        assert 0 < sum(result.by_token.values()) <= 1
        assert "Berlin" in result.first_token_only
        assert "Paris" not in result.first_token_only


@pytest.mark.asyncio(loop_scope="session")
async def test_likeliest_tokens_are_ordered_and_match_logprobs(engine_client: Any) -> None:
    async with engine_client() as client:
        client.timeout = httpx.Timeout(60)
        result = await carry_out(client, 5, None)
        body = {"messages": MESSAGES, "max_tokens": 1, "logprobs": True, "top_logprobs": 5, "temperature": 0}
        answer = msgspec.json.decode((await client.post("/v1/chat/completions", json=body)).content)
    listed = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert list(result.by_token) == [item["token"] for item in listed]
    assert list(result.by_token.values()) == pytest.approx([math.exp(item["logprob"]) for item in listed], abs=1e-4)
    assert list(result.by_token.values()) == sorted(result.by_token.values(), reverse=True)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("vocabulary", [None, ["Paris", "\n", " the"]], ids=["likeliest", "candidates"])
async def test_likely_half_character_does_not_hide_probabilities(engine_client: Any, vocabulary: list[str] | None) -> None:
    waving = [*MESSAGES, {"role": "assistant", "content": "👋👋👋👋👋👋👋👋👋👋👋👋"}]
    async with engine_client() as client:
        client.timeout = httpx.Timeout(60)
        result = [await carry_out(client, 3, vocabulary, waving) for _ in range(12)]
    assert all(0 < len(item.by_token) <= 3 for item in result)
    assert all(0 < sum(item.by_token.values()) <= 1 + 1e-6 for item in result)
    if vocabulary is None:
        assert result[0].by_token[""] > 0.5, "tokens without text of their own are added up"


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("vocabulary", [None, ["Paris", "\n", "🦙"]], ids=["likeliest", "candidates"])
async def test_likely_end_of_turn_does_not_hide_probabilities(engine_client: Any, vocabulary: list[str] | None) -> None:
    ending = [*MESSAGES, {"role": "assistant", "content": "The capital of France is Paris."}]
    async with engine_client() as client:
        client.timeout = httpx.Timeout(60)
        result = [await carry_out(client, 3, vocabulary, ending) for _ in range(12)]
    assert {len(item.by_token) for item in result} == {3}
    assert all(0 <= share <= 1 for item in result for share in item.by_token.values())
    if vocabulary is None:
        assert result[0].by_token[""] > 0.3, "the end of the turn has no text"
