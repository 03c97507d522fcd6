"""deploy/haproxy.cfg and deploy/nginx.conf in the real programs: immediate events, no repeated POST, no ambiguous heads."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.ports import free_port
from tests.deploy import tools
from tests.faults.client import Answer, FaultClient
from tests.faults.upstream_server import RST, FaultUpstream, canned, play
from tests.flows.live import eventually
from tests.running import RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]
HOST = "models.example.com"
BODY = {"model": "m", "messages": [{"role": "user", "content": "say something"}]}
SLOW = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "slowly #chunks=12# #delay=150ms#"}]}


def settings(kind: str, folder: Path, port: int, backends: tuple[int, int], health: int) -> tuple[Path, list[str]]:
    """Return the sample with local names, ports and folders, and the command that runs it."""
    name = "haproxy.cfg" if kind == "haproxy" else "nginx.conf"
    text = (tools.DEPLOY / name).read_text()
    own = {
        "haproxy": {"bind :8000": f"bind 127.0.0.1:{port}", "check port 8081": f"check addr 127.0.0.1 port {health}"},
        "nginx": {"listen 8000": f"listen 127.0.0.1:{port}", "/tmp/": f"{folder}/", "/run/nginx.pid": f"{folder}/nginx.pid"},
    }
    both = {f"gateway-{number}:8080": f"127.0.0.1:{backend}" for number, backend in enumerate(backends, 1)}
    for written, here in (both | own[kind]).items():
        assert written in text, written
        text = text.replace(written, here)
    path = folder / name
    path.write_text(text)
    program = tools.debian(kind)
    if kind == "haproxy":
        return path, [program, "-db", "-f", str(path)]
    return path, [program, "-p", str(folder), "-c", str(path), "-g", "daemon off;"]


Start = Callable[[tuple[int, int], int], int]


@pytest.fixture(params=["haproxy", "nginx"])
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts the proxy in front of two backends and returns its port.

    It takes the ports of the backends and the port of the health check.
    """
    running: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "proxy.log"

    def start(backends: tuple[int, int], health: int) -> int:
        port = free_port()
        _, command = settings(request.param, tmp_path, port, backends, health)
        with log.open("wb") as out:
            running.append(subprocess.Popen(command, stdout=out, stderr=out))
        deadline = time.monotonic() + 20
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz", headers={"host": HOST}, timeout=2, trust_env=False).status_code != 503:
                    return port
            except httpx.HTTPError:
                assert running[-1].poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    yield start
    for process in running:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, 128 + signal.SIGTERM, -signal.SIGTERM), log.read_text()


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_program_accepts_the_configuration(kind: str, tmp_path: Path) -> None:
    path, _ = settings(kind, tmp_path, free_port(), (free_port(), free_port()), free_port())
    program = tools.debian(kind)
    done = tools.run(program, "-c", "-f", path) if kind == "haproxy" else tools.run(program, "-t", "-p", tmp_path, "-c", path)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "[warn" in line.lower() or "[alert" in line.lower()] == []


async def test_events_are_forwarded_at_once(proxy: Start, gateway: Callable[..., RunningGateway]) -> None:
    async with FaultUpstream() as up:
        yaml = f'providers: {{ up: {{ type: openai-compatible, base_url: "{up.base_url}" }} }}\nmodels: {{ m: up/mock }}\nhosts: [{HOST}]\n'
        running = await asyncio.to_thread(gateway, yaml)
        await asyncio.to_thread(running.wait_ready)
        ports = tuple(int(url.rpartition(":")[2]) for url in (running.url, running.admin_url))
        port = await asyncio.to_thread(proxy, (ports[0], ports[0]), ports[1])
        arrived: list[float] = []
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            async with client.stream("POST", url, json=SLOW, headers={"host": HOST}) as answer:
                assert answer.status_code == 200
                async for line in answer.aiter_lines():
                    if line.startswith("data: ") and '"content"' in line:
                        arrived.append(time.monotonic())
        assert len(arrived) >= 12
        spread = arrived[-1] - arrived[0]
        assert spread > 11 * 0.15 * 0.5, "they came together: something held them back"


async def test_post_is_not_sent_twice(proxy: Start) -> None:
    async with FaultUpstream() as one, FaultUpstream() as other:
        for up in (one, other):
            up.on("/readyz", canned(b"{}"))
            up.on("/v1/chat/completions", play(RST))
        port = await asyncio.to_thread(proxy, (one.port, other.port), one.port)
        answer = await post(port, json.dumps(BODY).encode())
        assert answer.status in (502, 503)
        await asyncio.sleep(0.5)
        assert len([request for up in (one, other) for request in up.requests if request.method == "POST"]) == 1


async def test_client_disconnect_ends_the_upstream_call(proxy: Start) -> None:
    async with FaultUpstream() as up:
        up.on("/readyz", canned(b"{}"))
        port = await asyncio.to_thread(proxy, (up.port, up.port), up.port)
        endless = {**SLOW, "messages": [{"role": "user", "content": "slowly #chunks=2000# #delay=50ms#"}]}
        async with await FaultClient.connect(port) as client:
            await client.send(head(len(json.dumps(endless))) + json.dumps(endless).encode())
            await client.read_until(b"data: ")
        await eventually(lambda: any(request.left for request in up.requests), within=20)


async def test_heads_over_16_kib_are_rejected(proxy: Start) -> None:
    async with FaultUpstream() as up:
        up.on("/readyz", canned(b"{}"))
        port = await asyncio.to_thread(proxy, (up.port, up.port), up.port)
        body = json.dumps(BODY).encode()
        fits = [(f"x-note-{number}", "n" * 3000) for number in range(4)]
        assert (await post(port, body, fits)).status == 200
        count = len(up.requests)
        refused = await post(port, body, [(f"x-note-{number}", "n" * 3000) for number in range(9)])
        assert refused.status in (400, 431)
        assert len(up.requests) == count


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["host: a b"], id="a name with a blank"),
        pytest.param(["host: models.example.com", "host: other.example.com"], id="two names"),
        pytest.param([], id="no name"),
    ],
)
async def test_ambiguous_heads_are_rejected(proxy: Start, lines: list[str]) -> None:
    async with FaultUpstream() as up:
        up.on("/readyz", canned(b"{}"))
        port = await asyncio.to_thread(proxy, (up.port, up.port), up.port)
        async with await FaultClient.connect(port) as client:
            await client.send("\r\n".join(["POST /v1/chat/completions HTTP/1.1", *lines, "", "0\r\n\r\n"]).encode())
            assert (await client.answer()).status in (400, 421)
        assert [request for request in up.requests if request.method == "POST"] == []


async def test_at_most_one_of_two_lengths_is_forwarded(proxy: Start) -> None:
    """nginx rejects a request with two lengths, and HAProxy removes the content-length; RFC 9112 6.3 allows either."""
    async with FaultUpstream() as up:
        up.on("/readyz", canned(b"{}"))
        port = await asyncio.to_thread(proxy, (up.port, up.port), up.port)
        lines = [f"host: {HOST}", "content-length: 3", "transfer-encoding: chunked", "", "2\r\n{}\r\n0\r\n\r\n"]
        async with await FaultClient.connect(port) as client:
            await client.send("\r\n".join(["POST /v1/chat/completions HTTP/1.1", *lines]).encode())
            await client.answer()
        for request in up.requests:
            names = [name for name, _ in request.headers]
            assert not {"content-length", "transfer-encoding"} <= set(names), names
            assert request.method == "GET" or request.body == b"{}"


def head(length: int, headers: list[tuple[str, str]] | None = None) -> bytes:
    """Return the request head for the host of the samples."""
    lines = [f"{name}: {value}" for name, value in [("host", HOST), ("content-length", str(length)), *(headers or [])]]
    return "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "content-type: application/json", *lines, "", ""]).encode()


async def post(port: int, body: bytes, headers: list[tuple[str, str]] | None = None) -> Answer:
    """Send one call through the proxy."""
    async with await FaultClient.connect(port) as client:
        await client.send(head(len(body), headers) + body)
        return await client.answer()
