"""LangChain's standard integration tests pass over each API, with an upstream that plays a capable model."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from benchmarks.ports import free_port
from tests.clients.capable_model import answer_chat, answer_embeddings
from tests.clients.client_programs import MAIN_BIN, PROGRAMS
from tests.clients.conftest import KEY, fronted
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(240)]
CONFIG = """\
providers:
  up: {{ type: openai-compatible, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
models: {{ capable: up/capable, other: up/other }}
keys: {{ clients: {{ hash: "sha256:{key}" }} }}
"""
ONE_LOOP = [
    "--asyncio-mode=auto",
    "--override-ini=asyncio_default_test_loop_scope=session",
    "--override-ini=asyncio_default_fixture_loop_scope=session",
]
"""The packages share their connections between tests, and a connection belongs to one event loop."""
NO_RECORDING = {"test_stream_time": "VCR not set up."}
"""The test measures a recorded answer and never reaches a server."""
NO_AUDIO = {"test_audio_inputs": "Model does not support audio inputs."}
"""Only the tests of chat completions send audio."""
SKIPPED: dict[str, dict[str, str]] = {
    "TestChatCompletions": NO_RECORDING,
    "TestResponses": NO_RECORDING | NO_AUDIO,
    "TestMessages": NO_RECORDING | NO_AUDIO,
    "TestEmbeddings": {},
}
NUMBERS = {"TestChatCompletions": 49, "TestResponses": 48, "TestMessages": 48, "TestEmbeddings": 5}
"""Minimum number of tests that pass, so that a test that is no longer run is noticed."""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, FaultUpstream]]:
    """Return a gateway and its upstream, a capable model."""
    with fronted(CONFIG, tmp_path_factory.mktemp("langchain")) as front:
        front.upstream.on("/v1/chat/completions", answer_chat)
        front.upstream.on("/v1/embeddings", answer_embeddings)
        yield front.gateway, front.upstream


@pytest.fixture(scope="module")
def results(
    serving: tuple[RunningGateway, FaultUpstream], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """Run all classes in one process. Return, by class and test, "passed" or the reason why the test was skipped or failed."""
    gateway, upstream = serving
    folder = tmp_path_factory.mktemp("suite")
    report = folder / "report.xml"
    nowhere = f"http://127.0.0.1:{free_port()}"
    command = [
        str(MAIN_BIN / "python"), "-m", "pytest", "-c", os.devnull, f"--rootdir={PROGRAMS}", f"--confcutdir={PROGRAMS}",
        "-p", "no:cacheprovider", *ONE_LOOP, f"--junitxml={report}", str(PROGRAMS / "langchain_standard.py"),
    ]  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "ORIGIN": gateway.url, "KEY": KEY, "OPENAI_API_KEY": KEY,
        "NO_PROXY": "127.0.0.1", "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "LANGCHAIN_TRACING_V2": "false",
    }  # fmt: skip
    run = {"cwd": folder, "capture_output": True, "text": True, "timeout": 200, "check": False}
    process = subprocess.run(command, env=environment, **run)
    assert report.exists(), process.stdout + process.stderr
    assert upstream.failures == []
    found: dict[str, dict[str, str]] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        result = next((each.attrib.get("message") or each.tag for each in case), "passed")
        found.setdefault(case.attrib["classname"].rsplit(".", 1)[-1], {})[case.attrib["name"]] = result
    return found


@pytest.mark.parametrize("name", NUMBERS)
def test_the_standard_tests_pass(results: dict[str, dict[str, str]], name: str, figure: Figure) -> None:
    passed = sum(result == "passed" for result in results[name].values())
    left = {test: result for test, result in results[name].items() if result != "passed"}
    assert left == SKIPPED[name]
    assert passed >= NUMBERS[name]
    lost = len(left) - len(SKIPPED[name])
    figure(f"LangChain standard tests, {name.removeprefix('Test')}: passed (LOST {lost})", passed, "")
