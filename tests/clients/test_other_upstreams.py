"""A llama.cpp server and a TLS upstream behind the gateway work like the local model."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from benchmarks.ports import free_port
from providers.local.weights import find
from tests.clients.test_local_model import CITY_SCHEMA, ask, text_of
from tests.faults.tls import Certificates
from tests.faults.upstream_server import FaultUpstream
from tests.running import RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.upstream_thread import UpstreamThread

pytestmark = pytest.mark.timeout(300)
PARIS: Any = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "What is the capital of France?"}]
CONFIG = """\
providers:
  llama: {{ type: {type}, base_url: "http://127.0.0.1:{port}/v1" }}
models:
  local: llama/model
"""


@pytest.fixture(scope="module")
def llama_port() -> Iterator[int]:
    """Start a llama.cpp server with the bundled model and return its port."""
    model = find()
    assert model is not None, "no weights: run `lockgate pull`"
    port = free_port()
    program = Path(__file__).parent / "programs" / "llama_server.py"
    with subprocess.Popen(
        [sys.executable, str(program), str(model), str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not _healthy(port):
            assert process.poll() is None, "the llama.cpp server exited"
            assert time.monotonic() < deadline, "the llama.cpp server is not ready"
            time.sleep(0.1)
        yield port
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", verify=WITHOUT_AUTHORITIES, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(params=["llamacpp", pytest.param("openai-compatible", marks=pytest.mark.prove)])
def llama_client(request: pytest.FixtureRequest, llama_port: int, gateway: Callable[..., RunningGateway]) -> Iterator[openai.OpenAI]:
    """Return a client of a gateway whose only upstream is the llama.cpp server."""
    running = gateway(CONFIG.format(type=request.param, port=llama_port))
    with openai.OpenAI(base_url=running.base_url, api_key="anything", max_retries=0, timeout=120) as client:
        yield client


def test_a_llama_server_upstream_answers_like_the_local_model(llama_client: openai.OpenAI) -> None:
    answer = ask(llama_client, PARIS, temperature=0)
    assert "Paris" in text_of(answer)
    assert answer.usage.completion_tokens > 3
    chunks = [chunk for chunk in ask(llama_client, PARIS, temperature=0, stream=True) if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text_of(answer)
    assert chunks[-1].choices[0].finish_reason == "stop"
    stopped = ask(llama_client, PARIS, temperature=0, stop=["Paris"])
    assert text_of(stopped).strip()
    assert "Paris" not in text_of(stopped)
    short = ask(llama_client, PARIS, temperature=0, max_tokens=3)
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 3)


def test_a_llama_server_upstream_supports_seeds_logprobs_and_schemas(llama_client: openai.OpenAI) -> None:
    texts = [text_of(ask(llama_client, PARIS, temperature=1, seed=seed, max_tokens=12)) for seed in (1, 1, 2, 3, 4, 5)]
    assert texts[0] == texts[1]
    assert len(set(texts)) >= 2
    with_logprobs = ask(llama_client, PARIS, temperature=0, logprobs=True, top_logprobs=2, max_tokens=4)
    assert [len(token.top_logprobs) for token in with_logprobs.choices[0].logprobs.content] == [2, 2, 2, 2]
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY_SCHEMA}}
    jsonschema.validate(json.loads(text_of(ask(llama_client, PARIS, temperature=0, response_format=form, max_tokens=120))), CITY_SCHEMA)


@pytest.fixture
def tls_upstream(tmp_path: Path) -> Iterator[tuple[FaultUpstream, Path]]:
    """Return a scripted upstream with TLS, and the PEM file of its certificate authority."""
    certificates = Certificates(tmp_path)
    thread = UpstreamThread(FaultUpstream(tls="good", certificates=certificates))
    try:
        yield thread.server, certificates.ca
    finally:
        thread.stop()


def test_a_tls_upstream_with_a_trusted_authority_is_used(
    tls_upstream: tuple[FaultUpstream, Path], gateway: Callable[..., RunningGateway]
) -> None:
    server, authority = tls_upstream
    provider = f'{{ type: openai-compatible, base_url: "{server.base_url}", ca: "{authority}" }}'
    running = gateway(f"providers:\n  up: {provider}\nmodels:\n  local: up/mock\n")
    with openai.OpenAI(base_url=running.base_url, api_key="anything", max_retries=0, timeout=30) as client:
        assert text_of(ask(client)) == "w0 w1 w2 w3 w4 "
        chunks = [chunk for chunk in ask(client, stream=True) if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "w0 w1 w2 w3 w4 "
    assert server.ledger.accepted == 1, "the second call did not reuse the connection of the first"


def test_a_tls_upstream_with_an_untrusted_authority_gets_no_request(
    tls_upstream: tuple[FaultUpstream, Path], gateway: Callable[..., RunningGateway]
) -> None:
    server, _ = tls_upstream
    running = gateway(f'providers:\n  up: {{ type: openai-compatible, base_url: "{server.base_url}" }}\nmodels:\n  local: up/mock\n')
    with (
        openai.OpenAI(base_url=running.base_url, api_key="anything", max_retries=0, timeout=30) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        ask(client)
    assert caught.value.code == "upstream_tls_error"
    assert server.requests == []
