"""The package cohere at models of Cohere: nothing is lost on the way, and embeddings work at every provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client_programs import MAIN_BIN, run_program
from tests.clients.conftest import KEY, Front, fronted
from tests.faults.behaviours import canned
from tests.faults.upstream_wire import Exchange
from tests.native import cohere_fake as fake
from tests.providers.strict_embeddings import script, vector_of

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]
CONFIG = """\
providers:
  co: {{ type: cohere, base_url: "{base_url}/v2", api_key: "${{UPSTREAM_KEY}}" }}
  up: {{ type: openai, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
models: {{ command: co/command-a-03-2025, embed: co/embed-v4.0, other: up/text-embedding-3-small }}
keys: {{ clients: {{ hash: "sha256:{key}" }} }}
"""
VECTORS = b'{"id":"e1","embeddings":{"int8":[[1,-2]],"float":[[0.5,0.25]]},"meta":{"billed_units":{"input_tokens":3}}}'
PLAIN = b'{"id":"e1","embeddings":{"float":[[0.5],[0.25]]},"texts":["a","b"],"meta":{"billed_units":{"input_tokens":3}}}'

_FLOATS = b'{"id":"e1","response_type":"embeddings_floats","embeddings":[[0.5],[0.25]],"texts":["a","b"],"meta":META}'
FLOATS = _FLOATS.replace(b"META", b'{"billed_units":{"input_tokens":3}}')


async def chat(exchange: Exchange) -> None:
    """Answer with a plan and a call if the request has tools, else with citations."""
    body = exchange.request.json
    unknown = body.keys() - fake.FIELDS
    if unknown or (exchange.request.header("authorization") or "").endswith(KEY):
        await fake.refused(f"unknown: {sorted(unknown)}", 400)(exchange)
    elif body.get("stream"):
        await exchange.start_stream()
        for event in fake.EVENTS:
            await exchange.chunk(event)
        await exchange.chunk(b"")
    else:
        await canned(fake.CALLED if "tools" in body else fake.ANSWER)(exchange)


async def embed(exchange: Exchange) -> None:
    """Answer with vectors of the requested types."""
    await canned(VECTORS if exchange.request.json.get("embedding_types") == ["int8", "float"] else PLAIN)(exchange)


async def embed_first(exchange: Exchange) -> None:
    """Answer as version 1: with plain vectors unless types are requested."""
    by_type = VECTORS.replace(b"{", b'{"response_type":"embeddings_by_type",', 1)
    await canned(by_type if exchange.request.json.get("embedding_types") == ["int8", "float"] else FLOATS)(exchange)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Start a gateway with models at Cohere and at OpenAI."""
    folder: Path = tmp_path_factory.mktemp("cohere")
    with fronted(CONFIG, folder) as front:
        front.upstream.on("/v1/v2/chat", chat)
        front.upstream.on("/v1/v2/embed", embed)
        front.upstream.on("/v1/v1/embed", embed_first)
        front.upstream.on("/v1/embeddings", script("openai"))
        yield front


def test_nothing_is_lost_at_cohere(front: Front) -> None:
    environment = {"ORIGIN": front.gateway.url, "API_KEY": KEY, "NO_PROXY": "127.0.0.1", "HOME": "/"}
    found: dict[str, Any] = run_program("cohere_native.py", MAIN_BIN / "python", environment)
    assert found["answer"] == [fake.TEXT, "Bern", 5]
    assert found["plan"] == ["I will call f.", "f", "TOOL_CALL"]
    assert found["after_tool"] == "COMPLETE"
    assert found["stream"] == [fake.TEXT, True, "message-end", 8]
    assert found["native_vectors"] == found["native_vectors_v1"] == [[[1, -2]], [[0.5, 0.25]]]
    assert found["one embed"] == ["EmbeddingsFloatsEmbedResponse", [[0.5], [0.25]], 3]
    assert found["two embed"] == ["EmbedByTypeResponse", [[0.5], [0.25]], 3]
    vectors = [vector_of("a"), vector_of("b")]
    assert found["one other"] == ["EmbeddingsFloatsEmbedResponse", vectors, 2]
    assert found["two other"] == ["EmbedByTypeResponse", vectors, 2]
    assert "'embedding_types'" in found["refused"]
    assert "passthrough" in found["old"]
    assert front.upstream.failures == []
