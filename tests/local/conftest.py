"""Fixtures: one real engine for the test run, and clients of its socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from providers.local import weights
from providers.local.supervisor import Engine
from tests.support.plain_http import WITHOUT_AUTHORITIES


@pytest.fixture(scope="session")
def bundled_model() -> Path:
    """Return the bundled model's file. It is downloaded once, to the user's cache."""
    return weights.pull(report=lambda line: None)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(bundled_model: Path) -> AsyncIterator[Engine]:
    """Start the engine with its default settings."""
    one = Engine()
    await one.start()
    assert await one.settled(60) == "ready", one.reason
    yield one
    await one.stop()


@pytest.fixture
def engine_client(engine: Engine) -> Callable[[], httpx.AsyncClient]:
    """Return a function that returns a client of the engine."""
    return lambda: client_of(engine)


def client_of(engine: Engine) -> httpx.AsyncClient:
    """Return a client of an engine's socket."""
    transport = httpx.AsyncHTTPTransport(verify=WITHOUT_AUTHORITIES, uds=engine.socket)
    return httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=50)
