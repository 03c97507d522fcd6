"""Embeddings through the openai package, which asks for base64 and decodes it."""

from __future__ import annotations

import openai
import pytest

from tests.clients.conftest import Front
from tests.providers.strict_embeddings import script, vector_of
from tests.running import RunningGateway

pytestmark = pytest.mark.prove


def test_package_gets_the_exact_vectors_in_order(client: openai.OpenAI, front: Front) -> None:
    front.upstream.on("/v1/embeddings", script("openai"))
    texts = ["a fox", "a river", "Größe"]
    answer = client.embeddings.create(model="chat", input=texts)
    assert [each.embedding for each in answer.data] == [vector_of(text) for text in texts]
    assert [each.index for each in answer.data] == [0, 1, 2]
    assert answer.usage.prompt_tokens == sum(map(len, texts))
    assert front.upstream.requests[0].json == {"model": "mock", "input": texts, "encoding_format": "base64"}


@pytest.mark.parametrize("value", ["a fox", [1, 2, 3], [[1, 2], [3]]])
def test_package_sends_each_form_of_input(client: openai.OpenAI, front: Front, value: str | list[int]) -> None:
    front.upstream.on("/v1/embeddings", script("openai"))
    answer = client.embeddings.create(model="chat", input=value, encoding_format="float", dimensions=4, user="u1")
    assert [len(each.embedding) for each in answer.data] == [4] * (2 if isinstance(value, list) and isinstance(value[0], list) else 1)
    assert front.upstream.requests[0].json["input"] == value


def test_package_raises_the_error_of_an_invalid_input(client: openai.OpenAI, front: Front) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model="chat", input=["a", ""])
    assert raised.value.param == "input[1]"
    assert front.upstream.requests == []


def test_local_engine_embeds_in_both_encodings_alike(local_gateway: RunningGateway) -> None:
    with openai.OpenAI(base_url=local_gateway.base_url, api_key="anything", max_retries=0, timeout=120) as local:
        packed = local.embeddings.create(model="local", input=["a cat", "a kitten", "a carburetor"])
        plain = local.embeddings.create(model="local", input=["a cat", "a kitten", "a carburetor"], encoding_format="float")
    assert packed.usage.prompt_tokens > 3
    for first, second in zip(packed.data, plain.data, strict=True):
        assert len(first.embedding) == 576
        assert first.embedding == pytest.approx(second.embedding, abs=1e-6)
