"""Both openai packages use hosted tools and stored responses at a target that has the Responses API."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.client_programs import MAIN_BIN, OPENAI_2_BIN, run_program
from tests.clients.conftest import KEY
from tests.faults.upstream_server import FaultUpstream
from tests.native import responses_fake as fake
from tests.running import RunningGateway
from tests.support.upstream_thread import UpstreamThread

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]
CONFIG = """\
providers:
  oai: {{ type: openai, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
  up: {{ type: openai-compatible, base_url: "{base_url}" }}
models: {{ m: oai/gpt-5.2, chat: up/mock }}
keys: {{ clients: {{ hash: "sha256:{key}" }} }}
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, FaultUpstream]]:
    """Return a gateway and its upstream."""
    thread = UpstreamThread(FaultUpstream())
    folder = tmp_path_factory.mktemp("native")
    config = folder / "gateway.yaml"
    config.write_text(CONFIG.format(base_url=thread.server.base_url, key=hashlib.sha256(KEY.encode()).hexdigest()))
    try:
        gateway = RunningGateway(config, folder, {"UPSTREAM_KEY": fake.KEY})
        try:
            yield gateway, thread.server
        finally:
            gateway.stop()
    finally:
        thread.stop()


@pytest.mark.parametrize("interpreter", [MAIN_BIN / "python", OPENAI_2_BIN / "python"], ids=["openai 3", "openai 2"])
def test_the_package_reads_native_responses(serving: tuple[RunningGateway, FaultUpstream], interpreter: Path) -> None:
    gateway, upstream = serving
    upstream.reset()
    upstream.on("/v1/responses", fake.speaks_responses())
    environment = {"BASE_URL": gateway.base_url, "KEY": KEY, "NO_PROXY": "127.0.0.1", "HOME": "/"}
    found = run_program("openai_native_responses.py", interpreter, environment)
    answer = {"text": fake.TEXT, "kinds": ["reasoning", "web_search_call", "message"], "usage": [13, 4, 3], "store": False}
    assert found == {
        "whole": answer,
        "streamed": {**answer, "store": True},
        "events": ["response.created", "response.completed", len(fake.DELTAS)],
        "again": fake.TEXT,
        "read": {**answer, "store": True},
        "items": ["message"],
        "refused": "tools[0].type",
    }
    assert [request.path for request in upstream.requests] == ["/v1/responses"] * 3
    assert [item["type"] for item in upstream.requests[2].json["input"]] == ["message", *(item["type"] for item in fake.OUTPUT), "message"]
    assert upstream.failures == []
