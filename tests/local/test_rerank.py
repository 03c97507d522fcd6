"""Rerank at the embedded engine: by an embedding model, by a reranker, and not by a chat model."""

from __future__ import annotations

import io
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from providers.local.bert_gguf import Bert, write_gguf
from providers.local.rerank import cosine, read_vectors
from tests.flows.live import Live, eventually, live
from tests.local.tiny_bert import HEADS, VOCABULARY, published, safetensors, write_reranker
from tests.support.plain_http import WITHOUT_AUTHORITIES

pytestmark = pytest.mark.timeout(120)
DOCUMENTS = ["a fox", "paris", "a city a river"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run a gateway with three local providers: a tiny embedding model, a tiny reranker, and a chat model that cannot be loaded."""
    folder = tmp_path_factory.mktemp("models")
    with (folder / "vectors.gguf").open("wb") as out:
        write_gguf(out, io.BytesIO(safetensors(published())), VOCABULARY, Bert("tiny", HEADS, 1e-12, "none"))
    write_reranker(folder / "ranks.gguf")
    yaml = (
        "providers:\n"
        f"  vectors: {{ type: local, model: '{folder / 'vectors.gguf'}', slots: 1, context: 256 }}\n"
        f"  ranks: {{ type: local, model: '{folder / 'ranks.gguf'}', slots: 1, context: 256 }}\n"
        f"  chat: {{ type: local, model: '{folder / 'chat.gguf'}' }}\n"
        "models: { vectors: vectors/any, ranks: ranks/any, chat: chat/any, either: [chat/any, vectors/any] }\n"
    )
    (folder / "chat.gguf").write_bytes(b"GGUF" + bytes(20))
    async with live(yaml) as one:
        engines = one.gateway.generation.engines
        await eventually(lambda: all(engines[name].state == "ready" for name in ("vectors", "ranks")), 60)
        yield one


async def ask(gateway: Live, path: str, **body: Any) -> httpx.Response:
    """Make a call."""
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=60) as client:
        return await client.post(gateway.base_url + path, json=body, headers={"x-gateway-receipt": "body"})


@pytest.mark.asyncio(loop_scope="session")
async def test_embedding_model_scores_documents_by_the_cosine_with_the_query(gateway: Live) -> None:
    answer = await ask(gateway, "/rerank", model="vectors", query="capital france", documents=DOCUMENTS, top_n=2)
    assert answer.status_code == 200, answer.text
    ranked = answer.json()
    vectors = (await ask(gateway, "/embeddings", model="vectors", input=["capital france", *DOCUMENTS])).json()["data"]
    query, *others = (each["embedding"] for each in vectors)
    expected = sorted(((cosine(query, other), index) for index, other in enumerate(others)), reverse=True)[:2]
    assert [each["index"] for each in ranked["results"]] == [index for _, index in expected]
    assert [each["relevance_score"] for each in ranked["results"]] == pytest.approx([score for score, _ in expected], abs=1e-5)
    assert ranked["usage"]["prompt_tokens"] > 10
    noted = {each["param"]: each for each in ranked["gateway"]["adjustments"]}
    assert "cosine" in noted["documents"]["why"]
    assert noted["top_n"]["action"] == "enforce_locally"


@pytest.mark.asyncio(loop_scope="session")
async def test_reranker_scores_documents_itself(gateway: Live) -> None:
    answer = await ask(gateway, "/rerank", model="ranks", query="capital france", documents=DOCUMENTS)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    scores = [each["relevance_score"] for each in results]
    assert sorted(each["index"] for each in results) == [0, 1, 2]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3
    assert "adjustments" not in answer.json()["gateway"] or "cosine" not in str(answer.json()["gateway"]["adjustments"])
    reversed_answer = await ask(gateway, "/rerank", model="ranks", query="capital france", documents=DOCUMENTS[::-1])
    assert [2 - each["index"] for each in reversed_answer.json()["results"]] == [each["index"] for each in results]


@pytest.mark.asyncio(loop_scope="session")
async def test_chat_model_is_refused_or_skipped(gateway: Live) -> None:
    refused = await ask(gateway, "/rerank", model="chat", query="capital", documents=DOCUMENTS)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "unsupported_operation"
    assert "requires an embedding model or a reranker" in refused.json()["error"]["message"]
    skipped = await ask(gateway, "/rerank", model="either", query="capital", documents=DOCUMENTS)
    assert skipped.headers["x-gateway-target"] == "vectors/any"


@pytest.mark.asyncio(loop_scope="session")
async def test_reranker_refuses_embeddings_and_both_refuse_chat(gateway: Live) -> None:
    answer = await ask(gateway, "/embeddings", model="ranks", input="a fox")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_operation")
    for model in ("ranks", "vectors"):
        answer = await ask(gateway, "/chat/completions", model=model, messages=[{"role": "user", "content": "fox"}])
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_operation"), answer.text
        assert "does not generate text" in answer.json()["error"]["message"]


@pytest.mark.asyncio(loop_scope="session")
async def test_text_that_is_too_long_is_a_context_error_with_both_numbers(gateway: Live) -> None:
    answer = await ask(gateway, "/embeddings", model="vectors", input=["a fox", "a fox " * 200])
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "402 tokens" in error["message"]
    assert "128" in error["message"] or "256" in error["message"]


def test_answer_without_a_vector_for_each_input_is_an_error() -> None:
    for data in ([], [{"index": 1, "embedding": [1.0]}], [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]):
        with pytest.raises(ValueError, match="vectors"):
            read_vectors(json.dumps({"data": data}).encode())


def test_cosine_of_known_vectors() -> None:
    assert cosine([1.0, 0.0], [2.0, 0.0]) == 1.0
    assert cosine([1.0, 0.0], [0.0, 3.0]) == 0.0
    assert cosine([1.0, 1.0], [-1.0, 0.0]) == pytest.approx(-math.sqrt(0.5))
    assert cosine([0.0], [1.0]) == 0.0
