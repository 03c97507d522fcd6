"""The gateway process: start errors, signals, and several workers on one port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.commands import cli as command
from tests.flows.conftest import ROOT, chat
from tests.flows.processes import Start, children, config
from tests.running import RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES


def serve(folder: Path, yaml: str, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `lockgate serve` with this configuration until it exits."""
    (folder / "gateway.yaml").write_text(yaml)
    inherited = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LD_LIBRARY_PATH"}}
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(folder / "gateway.yaml"), "--admin-port", "0", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env={**inherited, **(env or {})}, check=False)


@pytest.mark.parametrize(("yaml", "args", "reason"), [
    ("models: {m: absent/x}\n", (), "absent"),
    ("models: [\n", (), "gateway.yaml:2:"),
    ("providers:\n  up: {type: openai, api_key: '${NOT_SET_ANYWHERE}'}\nmodels: {m: up/x}\n", (), "NOT_SET_ANYWHERE"),
    ("retrys: 1\n", (), "retrys"),
    ("store: memory://\n", ("--workers", "2"), "memory://"),
    ("tls: {cert: missing.pem, key: missing.pem}\n", (), "missing.pem"),
    ("listen: 0.0.0.0:0\n", (), "keys"),
])  # fmt: skip
def test_invalid_configuration_returns_2_and_prints_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], yaml: str, args: tuple[str, ...], reason: str
) -> None:
    for name in ("PORT", "ADMIN_PORT", "WORKERS"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml)
    code = command.run(["serve", "--config", str(config), "--admin-port", "0", *(args or ("--port", "0"))])
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert reason in err
    assert "Traceback" not in err
    if args:
        assert len(err.strip().splitlines()) == 1


def test_process_with_an_invalid_configuration_exits_with_code_2_and_the_reason(tmp_path: Path) -> None:
    result = serve(tmp_path, "models: {m: absent/x}\n", "--port", "0")
    assert (result.returncode, result.stdout) == (2, "")
    assert "absent" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use_exits_with_code_2_and_one_line(tmp_path: Path, upstream: str, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        result = serve(tmp_path, config(upstream), "--port", port, "--workers", workers)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines() == [f"cannot listen on 127.0.0.1:{port}: Address already in use"]


class Streaming:
    """A streamed call in its own thread."""

    def __init__(self, gateway: RunningGateway, chunks: int, delay: str) -> None:
        self.text = ""
        self.error: Exception | None = None
        self._started = threading.Event()
        body = chat(text=f"#chunks={chunks}##delay={delay}#", stream=True)
        self._thread = threading.Thread(target=self._run, args=(gateway.base_url, body))
        self._thread.start()
        assert self._started.wait(30)

    def _run(self, base_url: str, body: dict[str, Any]) -> None:
        try:
            with (
                httpx.Client(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=60) as client,
                client.stream("POST", base_url + "/chat/completions", json=body) as answer,
            ):
                for text in answer.iter_text():
                    self.text += text
                    self._started.set()
        except httpx.HTTPError as error:
            self.error = error
        finally:
            self._started.set()

    def join(self) -> None:
        """Wait for the end of the call."""
        self._thread.join(60)
        assert not self._thread.is_alive()


IN_PROVE = pytest.mark.prove  # test_shutdown_flow has the same signals with many streams


@IN_PROVE
@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_lets_a_running_stream_finish(gateway: Start, upstream: str, workers: str) -> None:
    running = gateway(config(upstream), args=("--workers", workers))
    running.wait_ready()
    _call_once(running)
    stream = Streaming(running, 40, "50ms")
    running.process.send_signal(signal.SIGTERM)
    stream.join()
    assert stream.error is None
    assert stream.text.endswith("data: [DONE]\n\n")
    assert running.process.wait(30) == 0
    assert [record["status"] for record in running.records() if record.get("stream")] == [200]


@IN_PROVE
@pytest.mark.parametrize("workers", ["1", "2"])
def test_p2_second_sigterm_exits_at_once_and_still_records_the_call(gateway: Start, upstream: str, workers: str) -> None:
    running = gateway(config(upstream), args=("--workers", workers))
    running.wait_ready()
    _call_once(running)
    stream = Streaming(running, 2000, "50ms")
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert running.process.poll() is None
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 0
    assert time.monotonic() - began < 20  # the drain would take 30 s, the stream 100 s
    stream.join()
    assert "[DONE]" not in stream.text
    assert '"server_shutting_down"' in stream.text
    records = [record for record in running.records() if record.get("stream")]
    assert [record["stream_end"] for record in records] == ["drain"]


def test_terminal_interrupt_drains_several_workers(gateway: Start, upstream: str) -> None:
    running = gateway(config(upstream), args=("--workers", "2"))
    running.wait_ready()
    _call_once(running)
    stream = Streaming(running, 40, "50ms")
    group = os.getpgid(running.pid)
    for pid in [running.pid, *children(running.pid)]:
        if os.getpgid(pid) == group:  # a terminal signals the whole process group
            os.kill(pid, signal.SIGINT)
    stream.join()
    assert stream.text.endswith("data: [DONE]\n\n")
    assert running.process.wait(30) == 0


def is_running(pid: int) -> bool:
    """Return whether a process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Block until the condition holds. Fail after this many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds} s"
        time.sleep(0.05)


def _answer(running: RunningGateway) -> httpx.Response:
    """Send a call on a new connection and return the answer."""
    return httpx.post(running.base_url + "/chat/completions", verify=WITHOUT_AUTHORITIES, json=chat(), timeout=60, trust_env=False)


def _call_once(running: RunningGateway) -> None:
    """Send a call and wait for the answer: with several workers the port is open before the first worker serves."""
    assert _answer(running).status_code == 200


def _counted_requests(running: RunningGateway) -> float:
    """Return the number of calls that /metrics counts."""
    text = httpx.get(running.admin_url + "/metrics", verify=WITHOUT_AUTHORITIES, trust_env=False).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("lockgate_requests_total"))


def test_two_workers_share_a_port_and_counters_and_a_killed_one_is_replaced_without_a_lower_count(gateway: Start, upstream: str) -> None:
    running = gateway(config(upstream), args=("--workers", "2"))
    running.wait_ready()
    _call_once(running)
    for _ in range(20):
        assert _answer(running).status_code == 200  # on a new connection
    wait_until(lambda: _counted_requests(running) == 21)
    assert len(children(running.pid)) == 2
    time.sleep(1.5)  # workers report their counters every second; a killed worker loses the counts that it has not reported
    before = set(children(running.pid))
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: len(set(children(running.pid)) - before) == 1)
    for _ in range(5):
        _call_once(running)
    wait_until(lambda: _counted_requests(running) == 26)
    assert "restarting in" in running.stderr


def test_workers_exit_if_the_supervisor_is_killed(upstream: str, tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    (folder / "gateway.yaml").write_text(config(upstream))
    running = RunningGateway(folder / "gateway.yaml", folder, args=("--workers", "2"))
    running.wait_ready()
    _call_once(running)
    workers = children(running.pid)
    assert len(workers) == 2
    running.process.kill()
    running.process.wait()
    wait_until(lambda: not any(is_running(pid) for pid in workers))
