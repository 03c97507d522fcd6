"""Every kind of call over each API with real packages, at a strict scripted upstream and at the local model.

The table is API x {JSON, stream, tools, images, error, abort}. A cell that fails counts as lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.clients.capable_model import ENDLESS, answer_chat
from tests.clients.client_programs import MAIN_BIN, run_program
from tests.clients.conftest import KEY, fronted
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(280)]
PROGRAMS = {"api_matrix.py": MAIN_BIN / "python", "api_matrix.mjs": MAIN_BIN / "node"}
KINDS = ("json", "stream", "tools", "images", "error", "abort")
APIS = {"api_matrix.py": ("chat", "responses", "messages", "cohere"), "api_matrix.mjs": ("chat", "responses", "messages")}
CONFIG = """\
providers:
  up: {{ type: openai-compatible, base_url: "{base_url}", api_key: "${{UPSTREAM_KEY}}" }}
models: {{ capable: up/capable }}
keys: {{ clients: {{ hash: "sha256:{key}" }} }}
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, FaultUpstream]]:
    """Return a gateway and its upstream, a capable model."""
    with fronted(CONFIG, tmp_path_factory.mktemp("matrix")) as front:
        front.upstream.on("/v1/chat/completions", answer_chat)
        yield front.gateway, front.upstream


def fill(name: str, gateway: RunningGateway, figure: Figure, **variables: str) -> None:
    """Run a program, and check that no cell of its table is missing or lost."""
    environment = {
        "ORIGIN": gateway.url, "KEY": KEY, "NO_PROXY": "127.0.0.1", "HOME": "/", "AI_SDK_LOG_WARNINGS": "false",
        **variables,
    }  # fmt: skip
    table = run_program(name, PROGRAMS[name], environment)
    assert set(table) == {f"{api} {kind}" for api in APIS[name] for kind in KINDS}
    lost = {cell: outcome for cell, outcome in table.items() if outcome != "ok"}
    figure(f"API matrix, {name}, {variables['MODEL']}: LOST of {len(table)}", len(lost), "")
    assert lost == {}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_call_is_lost_at_a_strict_upstream(
    serving: tuple[RunningGateway, FaultUpstream], name: str, figure: Figure
) -> None:
    gateway, upstream = serving
    seen = len(upstream.requests)
    fill(name, gateway, figure, MODEL="capable", EXPECTED="Hello", IMAGES="1", ANY_NAME="")
    aborted = [request for request in upstream.requests[seen:] if ENDLESS.encode() in request.body]
    assert len(aborted) == len(APIS[name])
    deadline = time.monotonic() + 60
    while not all(request.left for request in aborted) and time.monotonic() < deadline:
        time.sleep(0.05)  # the connection of the last abort closes after the program has ended
    assert all(request.left for request in aborted), "a call that its client left must not go on"
    assert upstream.failures == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_call_is_lost_at_the_local_model(local_gateway: RunningGateway, name: str, figure: Figure) -> None:
    """The local model reads no images, and the gateway of `make run` routes every model name to it."""
    fill(name, local_gateway, figure, MODEL="local", EXPECTED="Paris", IMAGES="", ANY_NAME="1")
