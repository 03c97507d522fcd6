"""The cohere package ranks documents through the gateway, by both of its versions, at a strict endpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.client_programs import MAIN_BIN
from tests.clients.conftest import CREDENTIAL, KEY
from tests.clients.test_vendor_packages import run_client
from tests.providers.server import Reply, Request, Upstream, json_reply
from tests.providers.strict_rerank import RERANKERS, answer_of, complaint
from tests.running import RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]


def rank(request: Request) -> Reply:
    """Answer as Cohere's strict endpoint does."""
    assert request.path == "/v2/rerank"
    assert request.headers["authorization"] == f"Bearer {CREDENTIAL}"
    assert complaint(RERANKERS["cohere"], request.body) is None
    return json_reply(answer_of(RERANKERS["cohere"], request.body))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """Start a gateway with one model at Cohere."""
    upstream = Upstream(rank)
    config = f"""
providers:
  up: {{ type: cohere, base_url: "{upstream.url}/v2", api_key: "${{UPSTREAM_KEY}}" }}
models: {{ rerank-v4.0-pro: up/rerank-v4.0-pro }}
keys: {{ clients: {{ hash: "sha256:{hashlib.sha256(KEY.encode()).hexdigest()}" }} }}
"""
    (tmp_path / "gateway.yaml").write_text(config)
    running = RunningGateway(tmp_path / "gateway.yaml", tmp_path, {"UPSTREAM_KEY": CREDENTIAL})
    yield running
    running.stop()
    upstream.close()


def test_cohere_ranks_by_both_versions(gateway: RunningGateway) -> None:
    result = run_client(gateway, "cohere_rerank.py", "rerank-v4.0-pro", MAIN_BIN / "python")
    assert result["classes"] == ["RerankResponse", "V2RerankResponse"]
    assert result["one"] == [[2, "capital of france"], [0, "paris"]]
    assert result["two"] == [2, 0, 1]
    assert result["scores"] == sorted(result["scores"], reverse=True)
    assert (result["units"], result["version"]) == ([1, 1], "2")
    assert "no-such-model" in result["unknown"]
    assert result["invalid"] == "query"
