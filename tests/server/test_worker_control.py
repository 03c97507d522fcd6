"""The control channel between a supervisor and a worker: one request and one reply per connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import Overrides
from gateway.config.source import ConfigSource
from gateway.server.worker_control import LoadReply, LoadRequest, listen, request_load

YAML = "providers:\n  up: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}\nmodels:\n  m: up/mock\n"


@pytest.fixture
def load(tmp_path: Path) -> LoadRequest:
    """A request to load generation 7 of a real configuration."""
    path = tmp_path / "gateway.yaml"
    path.write_text(YAML)
    return LoadRequest(ConfigSource(str(path), Overrides(), {}).read().text, 7, {"local": "/run/engine.sock"})


async def test_a_worker_receives_the_whole_request_and_its_reply_returns(tmp_path: Path, load: LoadRequest) -> None:
    received: list[LoadRequest] = []

    async def on_load(request: LoadRequest) -> LoadReply:
        received.append(request)
        return LoadReply(request.generation, "out of memory")

    path = tmp_path / "worker.sock"
    server = await listen(str(path), on_load)
    reply = await request_load(path, load, 30)
    server.close()
    assert (reply.generation, reply.error) == (7, "out of memory")
    assert (received[0].generation, received[0].engines) == (7, {"local": "/run/engine.sock"})
    assert list(received[0].text.parse().models) == ["m"]


async def test_a_worker_that_does_not_listen_is_an_os_error(tmp_path: Path, load: LoadRequest) -> None:
    with pytest.raises(OSError, match="No such file"):
        await request_load(tmp_path / "absent.sock", load, 30)


async def test_the_socket_of_an_earlier_worker_is_replaced(tmp_path: Path, load: LoadRequest) -> None:
    async def on_load(request: LoadRequest) -> LoadReply:
        return LoadReply(request.generation)

    path = tmp_path / "worker.sock"
    path.write_bytes(b"")
    server = await listen(str(path), on_load)
    assert (await request_load(path, load, 30)).error == ""
    server.close()
