"""Fixtures many tests share: scripted upstreams and a caller, the real gateway before them or before the local engine, figures."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import httpx
import hypothesis
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway

ROOT = Path(__file__).parents[1]
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
_any_machine = hypothesis.settings.get_profile("any machine")
hypothesis.settings.register_profile("steady", _any_machine, derandomize=True, database=None)
hypothesis.settings.register_profile("search", _any_machine, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
"""A run that gates a change tries the same cases as the last one; HYPOTHESIS_PROFILE=search looks for new ones."""
STATE = tempfile.mkdtemp(prefix="lockgate-tests-")
os.environ["LOCKGATE_STATE"] = STATE  # journals of tests stay out of the home directory
_figures = pytest.StashKey[list[str]]()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., RunningGateway]]:
    """Start gateways from YAML texts: `gateway(yaml, env={}, args=())`. All are stopped and examined at the end of the test."""
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
    """One gateway with config/gateway.yaml for the whole run: the local engine and its bundled model, ready to answer."""
    folder = tmp_path_factory.mktemp("local-gateway")
    running = RunningGateway(ROOT / "config" / "gateway.yaml", folder)
    try:
        running.wait_ready(300)
        yield running
    finally:
        running.stop()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the journals."""
    shutil.rmtree(STATE, ignore_errors=True)


def _stop_all(running: list[RunningGateway]) -> None:
    """Stop every one, even when an earlier one did not go cleanly."""
    faults = []
    for one in running:
        try:
            one.stop()
        except AssertionError as error:
            faults.append(error)
    if faults:
        raise faults[0]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Record a measured value, `figure("first token", 0.4, "s")`; all are printed at the end of the run. Nothing is judged by them."""
    lines = request.config.stash.setdefault(_figures, [])

    def record(name: str, value: float, unit: str) -> None:
        lines.append(f"{request.node.name}: {name} {value:.3g} {unit}")

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what tests measured."""
    lines = config.stash.get(_figures, [])
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
async def up() -> AsyncIterator[FaultUpstream]:
    """A scripted upstream, which answers as OpenAI would until a test says otherwise."""
    async with FaultUpstream() as server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[FaultUpstream]:
    """A second one."""
    async with FaultUpstream() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A caller."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as one:
        yield one
