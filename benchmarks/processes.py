"""The processes of a benchmark: mock upstream, load generator and the two targets, each pinned to a core."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
KEY = "sk-benchmark"
CHAT_PATH = "/v1/chat/completions"
FILES_WANTED = 32768
CORES = sorted(os.sched_getaffinity(0))
TARGET_CORE, LOAD_CORE = {CORES[0]}, {CORES[-1]}

GATEWAY_YAML = """\
listen: 127.0.0.1:{port}
admin: 127.0.0.1:{admin_port}
providers:
  mock: {{ type: openai-compatible, base_url: "http://127.0.0.1:{upstream}/v1", api_key: "${{UPSTREAM_KEY}}" }}
  messages: {{ type: anthropic, base_url: "http://127.0.0.1:{upstream}/v1", api_key: "${{UPSTREAM_KEY}}" }}
  responses: {{ type: openai, base_url: "http://127.0.0.1:{upstream}/v1", api_key: "${{UPSTREAM_KEY}}" }}
  tokens: {{ type: vllm, base_url: "http://127.0.0.1:{upstream}/v1", api_key: "${{UPSTREAM_KEY}}" }}
models:
  bench: mock/bench-model
  bench-tokens: tokens/bench-model
  native-messages: messages/bench-model
  native-responses: responses/bench-model
keys:
  caller: {{ hash: "sha256:{hash}", models: ["*"] }}
"""

NGINX_CONF = """\
daemon off;
master_process off;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream mock {{ server 127.0.0.1:{upstream}; keepalive 4096; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 120s;
        }}
    }}
}}
"""


@dataclass
class Load:
    """The report of the load generator."""

    completed: int
    errors: int
    events: int
    seconds: float
    first_p50_ms: float
    first_p99_ms: float


@dataclass
class Target:
    """A running proxy: its name, its port and its root process."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    started: float
    """Seconds from the start of the process to its first correct answer."""


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pinned(cores: set[int]) -> Callable[[], None]:
    """Return a function that pins a child process to `cores` and raises its file limit."""

    def prepare() -> None:
        os.sched_setaffinity(0, cores)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    return prepare


def compile_programs(folder: Path) -> None:
    """Compile the mock and the load generator. Exit with one line if there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("the benchmark needs a C compiler for its mock upstream and its load (Debian: apt install gcc libc6-dev)")
    for name in ("mock", "load"):
        subprocess.run([compiler, "-O2", "-o", str(folder / name), str(HERE / f"{name}.c")], check=True)


def start_mock(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the mock upstream. Return its process and its port."""
    process = subprocess.Popen([str(folder / "mock"), "0"], stdout=subprocess.PIPE, preexec_fn=pinned(LOAD_CORE))
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def run_load(
    folder: Path,
    port: int,
    body: bytes,
    connections: int,
    seconds: float,
    events: int,
    times: int = 0,
    path: str = CHAT_PATH,
) -> Load:
    """Send load to a target. Raise RuntimeError if any answer is wrong."""
    command = [str(folder / "load"), str(port), str(connections), str(seconds), str(times), str(events), KEY, path]
    done = subprocess.run(command, input=body, capture_output=True, preexec_fn=pinned(LOAD_CORE), check=False)
    if done.returncode:
        raise RuntimeError(f"the load generator reported errors: {done.stdout.decode()} {done.stderr.decode()}")
    return Load(**json.loads(done.stdout))


def start_gateway(folder: Path, upstream: int, body: bytes) -> Target:
    """Start the gateway with one key, one model and one remote provider, without an engine, logging to a file."""
    config = folder / "gateway.yaml"
    port, admin_port = free_port(), free_port()
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    config.write_text(GATEWAY_YAML.format(port=port, admin_port=admin_port, upstream=upstream, hash=digest))
    with (folder / "gateway.log").open("wb") as log:
        return _start("gateway", [sys.executable, "-m", "gateway", "serve", "--config", str(config)], port, folder, body, log.fileno())


def start_nginx(folder: Path, upstream: int, body: bytes) -> Target | None:
    """Start nginx as a plain proxy. Return None if it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONF.format(folder=folder, upstream=upstream, port=port, files=FILES_WANTED))
    command = [program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    with (folder / "nginx.log").open("wb") as log:
        return _start("nginx", command, port, folder, body, log.fileno())


def nginx_version() -> str | None:
    """Return the version of nginx, or None if it is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"nginx/\S+", said)
    return found.group() if found else None


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process of this run."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(name: str, command: list[str], port: int, folder: Path, body: bytes, log: int) -> Target:
    """Start a target and wait for its first correct answer."""
    began = time.monotonic()
    env = {**os.environ, "UPSTREAM_KEY": "upstream-credential", "LOCKGATE_STATE": str(folder / "state")}
    process = subprocess.Popen(command, cwd=HERE.parent, env=env, stdout=log, stderr=log, preexec_fn=pinned(TARGET_CORE))
    while time.monotonic() - began < 30 and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            run_load(folder, port, body, connections=1, seconds=5, events=0, times=1)
        except (OSError, RuntimeError):
            time.sleep(0.01)
        else:
            return Target(name, port, process, time.monotonic() - began)
    stop(process)
    raise RuntimeError(f"{name} gave no correct answer:\n{(folder / f'{name}.log').read_text(errors='replace')[-2000:]}")
