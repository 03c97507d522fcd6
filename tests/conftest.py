"""Shared fixtures: scripted upstreams, an HTTP client, gateway processes and recorded figures."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import httpx
import hypothesis
import pytest

from tests.faults.tls import Certificates
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.search import PROFILE, examples

ROOT = Path(__file__).parents[1]
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
_any_machine = hypothesis.settings.get_profile("any machine")
for _profile in ("steady", "full"):
    hypothesis.settings.register_profile(_profile, _any_machine, derandomize=True, database=None, max_examples=examples(100))
hypothesis.settings.register_profile("search", _any_machine, max_examples=2000)
# Every run tries the same cases, so that a result can be reproduced. HYPOTHESIS_PROFILE=search tries new ones.
hypothesis.settings.load_profile(PROFILE)
STATE = tempfile.mkdtemp(prefix="lockgate-tests-")
os.environ["LOCKGATE_STATE"] = STATE  # keeps the journals of tests out of the home directory
PROCESSES = {"bundled_model", "gateway", "local_gateway", "own_redis", "servers", "upstream"}
"""Fixtures that start processes."""
LONG = {
    "test_partition_proof.py", "test_openapi_fuzzer.py", "test_image_build.py", "test_reload_proof.py",
    "test_transport_faults.py", "test_shutdown_flow.py", "test_layout.py", "test_redis_store.py", "test_model.py", "test_supervisor.py",
    "test_members.py", "test_redis_faults.py", "test_limit.py", "test_reload_flow.py", "test_release.py", "test_tracing.py",
    "test_caller_disconnects.py", "test_failures_before_content.py", "test_project.py", "test_prose.py",
}  # fmt: skip
"""Files that take minutes in `make prove` or more than ten seconds in `make test`."""


def pytest_sessionstart() -> None:
    """Collect no garbage during the collection of tests, which creates millions of objects that stay."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Hide the collected tests from the garbage collector, which would traverse them again and again."""
    gc.enable()
    gc.freeze()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests of Hypothesis as searches."""
    if hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
        item.add_marker(pytest.mark.search)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, then files whose tests start processes, so that none of them runs alone at the end."""
    slow = {item.path for item in items if not PROCESSES.isdisjoint(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: (item.path.name not in LONG, item.path not in slow))


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., RunningGateway]]:
    """Return a function that starts a gateway: `gateway(yaml, env={}, args=())`. All are stopped and checked after the test."""
    running: list[RunningGateway] = []

    def start(text: str, env: Mapping[str, str] | None = None, args: tuple[str, ...] = ()) -> RunningGateway:
        folder = tmp_path / f"gateway-{len(running)}"
        folder.mkdir()
        config = folder / "gateway.yaml"
        config.write_text(text)
        running.append(RunningGateway(config, folder, env, args))
        return running[-1]

    yield start
    _stop_all(running)


@pytest.fixture(scope="session")
def local_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """Return one gateway with config/gateway.yaml for the whole test run. Its local engine is ready."""
    folder = tmp_path_factory.mktemp("local-gateway")
    running = RunningGateway(ROOT / "config" / "gateway.yaml", folder)
    try:
        running.wait_ready(300)
        yield running
    finally:
        running.stop()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete the journals."""
    shutil.rmtree(STATE, ignore_errors=True)


def _stop_all(running: list[RunningGateway]) -> None:
    """Stop all gateways, then raise the first failure."""
    failures = []
    for gateway in running:
        try:
            gateway.stop()
        except AssertionError as error:
            failures.append(error)
    if failures:
        raise failures[0]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Return a function that records a value: `figure("first token", 0.4, "s")`. All values are printed at the end of the run."""
    properties = request.node.user_properties  # the figures reach the main process from all worker processes

    def record(name: str, value: float, unit: str) -> None:
        properties.append(("figure", f"{request.node.name}: {name} {value:.3g} {unit}"))

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the measured values."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    lines = [text for report in reports if report.when == "call" for name, text in report.user_properties if name == "figure"]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return one certificate authority for the whole run."""
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def up() -> AsyncIterator[FaultUpstream]:
    """Return a scripted upstream. Its default script answers like OpenAI."""
    async with FaultUpstream() as server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[FaultUpstream]:
    """Return a second scripted upstream."""
    async with FaultUpstream() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client for callers."""
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=30) as http_client:
        yield http_client
