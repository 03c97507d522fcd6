"""The gateway as a process: how it refuses to start, how it ends, and how several workers share a port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.running import RunningGateway

ROOT = Path(__file__).parents[2]
Start = Callable[..., RunningGateway]


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """A scripted upstream in a process of its own; its base URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.upstream_server", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def config(upstream: str, rest: str = "") -> str:
    """One model at the upstream."""
    return f'providers:\n  up: {{ type: openai-compatible, base_url: "{upstream}" }}\nmodels: {{ m: up/mock }}\n{rest}'


SHARED = "store: redis://127.0.0.1:1/0\n"
"""Nothing connects to the store yet: it only allows several workers."""


def chat(text: str = "hi", *, stream: bool = False) -> dict[str, object]:
    """A chat body."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}


def serve(folder: Path, yaml: str, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `lockgate serve` on a file until it ends by itself."""
    (folder / "gateway.yaml").write_text(yaml)
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LD_LIBRARY_PATH"}}
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(folder / "gateway.yaml"), "--admin-port", "0", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env={**kept, **(env or {})}, check=False)


@pytest.mark.parametrize(("yaml", "args", "said"), [
    ("models: {m: nobody/x}\n", (), "nobody"),
    ("models: [\n", (), "gateway.yaml:2:"),
    ("providers:\n  up: {type: openai, api_key: '${NOT_SET_ANYWHERE}'}\nmodels: {m: up/x}\n", (), "NOT_SET_ANYWHERE"),
    ("retrys: 1\n", (), "retrys"),
    ("store: memory://\n", ("--workers", "2"), "memory://"),
    ("tls: {cert: missing.pem, key: missing.pem}\n", (), "missing.pem"),
    ("listen: 0.0.0.0:0\n", (), "keys"),
])  # fmt: skip
def test_what_cannot_be_served_ends_with_exit_code_2_and_says_why(tmp_path: Path, yaml: str, args: tuple[str, ...], said: str) -> None:
    ended = serve(tmp_path, yaml, *(args or ("--port", "0")))
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    if args:
        assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_busy_port_is_one_line_and_exit_code_2(tmp_path: Path, upstream: str, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = serve(tmp_path, config(upstream, SHARED), "--port", port, "--workers", workers)
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines() == [f"cannot listen on 127.0.0.1:{port}: Address already in use"]


class Streaming:
    """A streamed call in a thread of its own."""

    def __init__(self, gateway: RunningGateway, chunks: int, delay: str) -> None:
        self.text = ""
        self.error: Exception | None = None
        self._started = threading.Event()
        body = chat(f"#chunks={chunks}##delay={delay}#", stream=True)
        self._thread = threading.Thread(target=self._run, args=(gateway.base_url, body))
        self._thread.start()
        assert self._started.wait(30)

    def _run(self, base_url: str, body: dict[str, object]) -> None:
        try:
            with (
                httpx.Client(trust_env=False, timeout=60) as client,
                client.stream("POST", base_url + "/chat/completions", json=body) as answer,
            ):
                for piece in answer.iter_text():
                    self.text += piece
                    self._started.set()
        except httpx.HTTPError as error:
            self.error = error
        finally:
            self._started.set()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_lets_a_running_stream_finish(gateway: Start, upstream: str, workers: str) -> None:
    running = gateway(config(upstream, SHARED), args=("--workers", workers))
    running.wait_ready()
    _warm(running)
    stream = Streaming(running, 40, "50ms")
    running.process.send_signal(signal.SIGTERM)
    stream.join()
    assert stream.error is None
    assert stream.text.endswith("data: [DONE]\n\n")
    assert running.process.wait(30) == 0
    assert [record["status"] for record in running.records() if record.get("stream")] == [200]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_p2_a_second_sigterm_ends_at_once_and_still_records_the_call(gateway: Start, upstream: str, workers: str) -> None:
    running = gateway(config(upstream, SHARED), args=("--workers", workers))
    running.wait_ready()
    _warm(running)
    stream = Streaming(running, 2000, "50ms")
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert running.process.poll() is None
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0
    assert time.monotonic() - began < 10  # the drain alone would take 30 s, the stream 100 s
    stream.join()
    assert "[DONE]" not in stream.text
    assert '"server_shutting_down"' in stream.text
    records = [record for record in running.records() if record.get("stream")]
    assert [record["stream_end"] for record in records] == ["drain"]


def test_an_interrupt_from_the_terminal_drains_with_several_workers_too(gateway: Start, upstream: str) -> None:
    running = gateway(config(upstream, SHARED), args=("--workers", "2"))
    running.wait_ready()
    _warm(running)
    stream = Streaming(running, 40, "50ms")
    group = os.getpgid(running.pid)
    for pid in [running.pid, *children(running.pid)]:
        if os.getpgid(pid) == group:  # a terminal sends it to the whole group
            os.kill(pid, signal.SIGINT)
    stream.join()
    assert stream.text.endswith("data: [DONE]\n\n")
    assert running.process.wait(30) == 0


def children(pid: int) -> list[int]:
    """The processes that `pid` started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def _warm(running: RunningGateway) -> None:
    """Return once a call is answered: with several workers the port is open before the first of them serves."""
    assert httpx.post(running.base_url + "/chat/completions", json=chat(), timeout=60, trust_env=False).status_code == 200


def _served(running: RunningGateway) -> float:
    """The calls that /metrics counts."""
    text = httpx.get(running.admin_url + "/metrics", trust_env=False).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("lockgate_requests_total"))


def test_two_workers_share_a_port_and_their_counters(gateway: Start, upstream: str) -> None:
    running = gateway(config(upstream, SHARED), args=("--workers", "2"))
    running.wait_ready()
    _warm(running)
    for _ in range(20):
        answer = httpx.post(running.base_url + "/chat/completions", json=chat(), trust_env=False)  # a new connection each time
        assert answer.status_code == 200
    eventually(lambda: _served(running) == 21)
    assert len(children(running.pid)) == 2


def test_a_worker_that_was_killed_is_replaced_and_no_counter_goes_down(gateway: Start, upstream: str) -> None:
    running = gateway(config(upstream, SHARED), args=("--workers", "2"))
    running.wait_ready()
    for _ in range(5):
        _warm(running)
    eventually(lambda: _served(running) == 5)
    time.sleep(1.5)  # the counters are asked for every second; what came after the last time is lost with a killed worker
    before = set(children(running.pid))
    os.kill(min(before), signal.SIGKILL)
    eventually(lambda: len(set(children(running.pid)) - before) == 1)
    for _ in range(5):
        _warm(running)
    eventually(lambda: _served(running) == 10)
    assert "restarting in" in running.stderr


def test_workers_leave_with_a_supervisor_that_was_killed(upstream: str, tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    (folder / "gateway.yaml").write_text(config(upstream, SHARED))
    running = RunningGateway(folder / "gateway.yaml", folder, args=("--workers", "2"))
    running.wait_ready()
    _warm(running)
    workers = children(running.pid)
    assert len(workers) == 2
    running.process.kill()
    running.process.wait()
    eventually(lambda: not any(alive(pid) for pid in workers))
