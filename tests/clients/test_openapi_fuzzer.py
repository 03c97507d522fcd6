"""A fuzzer reads the OpenAPI document, and finds no undocumented response and no internal error."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.client_programs import MAIN_BIN
from tests.clients.conftest import KEY
from tests.faults.behaviours import canned
from tests.faults.chat_script import answer_as_openai
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.running import RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.upstream_thread import UpstreamThread

pytestmark = [pytest.mark.prove, pytest.mark.timeout(660)]
ADMIN_KEY = "admin-key-of-the-fuzzer-41c2"
CONFIG = """\
providers:
  up: {{ type: openai-compatible, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
models: {{ m: up/mock, other/model: up/mock-2 }}
keys: {{ fuzzer: {{ hash: "sha256:{key}" }} }}
admin: {{ key_hash: "sha256:{admin}" }}
callers: {{ openapi: true }}
"""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
RUNS = {
    "bounds-of-chat": ("callers", "coverage", 1, ["--include-path", "/chat/completions"]),
    "callers": (
        "callers",
        "fuzzing",
        40,
        ["--exclude-path-regex", "attribution|(logits|messages|responses|embeddings|rerank)/explain"],
    ),
    "admin": ("admin", "coverage,fuzzing", 15, []),
}
"""Runs of the fuzzer: the listener, the phases, the requests for each operation, and further options.

tests/openapi/test_requests.py tries the bounds of every field of every API. Some paths with the same handler are left
out.
"""
CALLS = {
    "/chat/completions",
    "/chat/logits",
    "/completions",
    "/embeddings",
    "/messages",
    "/responses",
    "/rerank",
    "/v2/rerank",
}
"""The paths at which some requests of the fuzzer are answered by the upstream."""
PROBABILITIES = {
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "a"},
            "logprobs": {
                "content": [{"token": "a", "logprob": -0.1, "top_logprobs": [{"token": "a", "logprob": -0.1}]}]
            },
            "finish_reason": "length",
        }
    ]
}


async def answer(exchange: Exchange) -> None:
    """Answer with a vector for each input, with log probabilities if one token is requested, else as OpenAI does."""
    fields = exchange.request.json
    if exchange.request.path.endswith("/embeddings"):
        given = fields["input"]
        count = len(given) if type(given) is list and type(given[0]) is not int else 1
        vectors = [{"object": "embedding", "index": index, "embedding": [0.5]} for index in range(count)]
        await canned(json.dumps({"object": "list", "data": vectors}).encode())(exchange)
    elif (
        fields.get("logprobs")
        and not fields.get("stream")
        and 1 in (fields.get("max_tokens"), fields.get("max_completion_tokens"))
    ):
        await canned(json.dumps(PROBABILITIES).encode())(exchange)
    else:
        await answer_as_openai(exchange)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """Return a gateway in front of an upstream that answers every call."""
    thread = UpstreamThread(FaultUpstream())
    thread.server.on(lambda request: True, answer)
    folder = tmp_path_factory.mktemp("fuzzer")
    config = folder / "gateway.yaml"
    hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in (("key", KEY), ("admin", ADMIN_KEY))}
    config.write_text(CONFIG.format(base_url=thread.server.base_url, **hashes))
    try:
        running = RunningGateway(config, folder, {"UPSTREAM_KEY": "sk-upstream"})
        try:
            running.wait_ready()
            yield running
        finally:
            running.stop()
    finally:
        thread.stop()


def for_fuzzer(document: dict[str, Any], listener: str) -> dict[str, Any]:
    """Return the document of one listener, with the models that exist, and without deadlines that no call can meet."""
    paths = document["paths"].items()
    document["paths"] = {
        path: item for path, item in paths if any(listener in server["url"] for server in item["servers"])
    }
    for item in document["paths"].values():
        del item["servers"]
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("Request") and name != "RouteRequest":
            schema["properties"]["model"]["enum"] = ["m", "other/model"]
            schema["properties"].pop("timeout_microseconds", None)
    return document


@pytest.mark.parametrize("run", RUNS)
def test_fuzzer_finds_only_documented_responses(gateway: RunningGateway, run: str, tmp_path: Path) -> None:
    listener, phases, examples, more = RUNS[run]
    url, key = {"callers": (gateway.url, KEY), "admin": (gateway.admin_url, ADMIN_KEY)}[listener]
    bearer = f"Bearer {key}"
    served = httpx.get(
        f"{url}/openapi.json", headers={"authorization": bearer}, verify=WITHOUT_AUTHORITIES, trust_env=False
    )
    location = tmp_path / "openapi.json"
    location.write_text(json.dumps(for_fuzzer(served.raise_for_status().json(), listener)))
    command = [
        str(MAIN_BIN / "schemathesis"),
        "run",
        str(location),
        "--url",
        url,
        "--checks",
        ",".join(CHECKS),
        "-H",
        f"Authorization: {bearer}",
        "--phases",
        phases,
        "--max-examples",
        str(examples),
        "--mode",
        "all",
        "--generation-deterministic",
        "--no-shrink",
        *more,
        "--no-color",
        "--continue-on-failure",
        "--warnings",
        "off",
        "--suppress-health-check",
        "all",
        "--request-timeout",
        "20",
    ]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=tmp_path)
    assert process.returncode == 0, process.stdout[:12000] + process.stderr[-2000:]
    records = gateway.records()
    assert [record for record in records if record.get("level") == "error"] == []
    statuses = Counter((record["path"], record["status"]) for record in records if "path" in record)
    assert run != "callers" or {path for path, status in statuses if status == 200} >= CALLS, statuses
