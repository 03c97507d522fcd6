"""The official MCP package as client and as server, with the gateway between them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client_programs import MAIN_BIN, PROGRAMS, run_program
from tests.flows.operator import digest
from tests.running import RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]
KEY, TOKEN = "lg-tools-0123456789abcdef", "the-servers-own-token"


@pytest.fixture(params=["0", "1"], ids=["streams", "json"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve tools. Return the address of the endpoint."""
    environment = {"TOKEN": TOKEN, "AS_JSON": request.param, "HOME": "/"}
    command = [str(MAIN_BIN / "python"), str(PROGRAMS / "mcp_server.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def config(server: str, tools: str = "") -> str:
    """Return a configuration with the server and one key."""
    return f"""
mcp:
  tools: {{ url: "{server}", api_key: "${{TOKEN}}"{tools} }}
keys:
  agent: {{ hash: "{digest(KEY)}", passthrough: ["/mcp/tools"] }}
"""


def use(gateway: RunningGateway) -> dict[str, Any]:
    """Use the server through the gateway, with and without the handshake of earlier versions of the protocol. Return the results."""
    environment = {"URL": gateway.url + "/mcp/tools", "API_KEY": KEY, "NO_PROXY": "127.0.0.1", "HOME": str(Path.home())}
    return run_program("mcp_client.py", MAIN_BIN / "python", environment)


def test_client_and_server_work_through_the_gateway(
    server: str, gateway: Callable[..., RunningGateway], request: pytest.FixtureRequest
) -> None:
    progress = [1.0, 2.0, 3.0, 4.0, 5.0] if "streams" in request.node.name else []
    running = gateway(config(server), {"TOKEN": TOKEN})
    found = use(running)
    assert {each["version"] for each in found.values()} == {"2025-11-25", "2026-07-28"}
    for each in found.values():
        assert each["tools"] == ["add", "add_after_a_break", "add_slowly", "erase"]
        assert (each["added"], each["slow"], each["refused"], each["note"]) == ("5", "5", "called", "a note")
        assert each["progress"] == progress
        assert each["resumed"] == "9"
    opened = [record for record in running.records() if record["method"] == "GET"]
    assert {record["status"] for record in opened} <= {200, 499}
    assert len(opened) >= (2 if progress else 1)  # the client resumes the stream that the server ended


def test_tools_that_are_not_allowed_are_neither_listed_nor_called(server: str, gateway: Callable[..., RunningGateway]) -> None:
    running = gateway(config(server, ", tools: ['add*']"), {"TOKEN": TOKEN})
    for each in use(running).values():
        assert each["tools"] == ["add", "add_after_a_break", "add_slowly"]
        assert (each["added"], each["slow"]) == ("5", "5")
        assert "The tool 'erase' is not allowed" in each["refused"]
