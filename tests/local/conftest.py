"""One real engine for the whole run, and clients of its socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from providers.local import weights
from providers.local.engine import Engine


@pytest.fixture(scope="session")
def bundled_model() -> Path:
    """The bundled model's file; fetched once, into the user's cache."""
    return weights.pull(report=lambda line: None)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(bundled_model: Path) -> AsyncIterator[Engine]:
    """The engine with its default settings."""
    one = Engine()
    await one.start()
    assert await one.settled(60) == "ready", one.reason
    yield one
    await one.stop()


@pytest.fixture
def engine_client(engine: Engine) -> Callable[[], httpx.AsyncClient]:
    """Clients that speak to the engine directly."""
    return lambda: client_of(engine)


def client_of(engine: Engine) -> httpx.AsyncClient:
    """A client of an engine's socket."""
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=engine.socket), base_url="http://engine", timeout=50)
