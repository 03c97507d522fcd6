"""The gateway in its variants, nginx and HAProxy, and the servers that they need: Redis, and TLS in front of the mock."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bodies import request_body
from benchmarks.ports import free_port
from benchmarks.processes import (
    FILES_WANTED,
    KEY,
    LOAD_CORE,
    TARGET_CORE,
    BrokenTargetError,
    Launch,
    Process,
    pinned,
    program,
)

FULL, BARE, NGINX, CONTROL = "everything on", "bare", "nginx", "nginx again"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()

GATEWAY_YAML = """\
listen: 127.0.0.1:{port}
admin: 127.0.0.1:{admin_port}
providers:
  mock: {{ type: openai-compatible, base_url: "http://127.0.0.1:{upstream}/v1", api_key: "${{UPSTREAM_KEY}}" }}
  messages: {{ type: anthropic, base_url: "http://127.0.0.1:{upstream}/v1", api_key: "${{UPSTREAM_KEY}}" }}
  responses: {{ type: openai, base_url: "http://127.0.0.1:{upstream}/v1", api_key: "${{UPSTREAM_KEY}}" }}
  cohere: {{ type: cohere, base_url: "http://127.0.0.1:{upstream}/v2", api_key: "${{UPSTREAM_KEY}}" }}
  tokens: {{ type: vllm, base_url: "http://127.0.0.1:{upstream}/v1", api_key: "${{UPSTREAM_KEY}}" }}
{providers}passthrough: {{ "/v1/raw/*": mock }}
models:
  bench: mock/bench-model
  bench-tokens: tokens/bench-model
  native-messages: messages/bench-model
  native-responses: responses/bench-model
  native-cohere: cohere/bench-model
{models}"""
FIT_MODEL = "  bench-fit: { targets: mock/bench-model, context: { overflow: truncate, max_prompt_tokens: 8000 } }\n"
"""A model whose prompts are counted, so that the gateway opens a vocabulary."""
FULL_YAML = """\
store: {store}
journal: {folder}/journal
keys:
  caller:
    hash: "sha256:{digest}"
    models: ["*"]
    passthrough: ["*"]
    limits: {{ requests: 1000000/s, tokens: 100000000k/min }}
{keys}"""
BARE_YAML = """\
store: {store}
journal: "off"
calls: {{ max_bytes: 0 }}
auth: none
"""

NGINX_CONF = """\
daemon off;
{processes}
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_max_body_size 8m;
    client_body_buffer_size 4m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream mock {{ server 127.0.0.1:{upstream}; keepalive 4096; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096{listen};
        {certificate}
        location / {{
            proxy_pass {scheme}://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 120s;
        }}
    }}
}}
"""

HAPROXY_CFG = """\
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    http-reuse always
frontend callers
    bind 127.0.0.1:{port} backlog 4096
    default_backend mock
backend mock
    server mock 127.0.0.1:{upstream} pool-max-conn -1
"""


@dataclass(frozen=True)
class Place:
    """The folder of a target, the port of its upstream, and the port of a Redis, which is started on its first use."""

    folder: Path
    upstream: int
    redis: Callable[[], int]


@dataclass(frozen=True)
class More:
    """Further lines of the configuration."""

    providers: str = ""
    models: str = ""
    keys: str = ""


def gateway(
    name: str, place: Place, *, full: bool = True, workers: int = 1, cores: set[int] | None = None, more: More | None = None
) -> Launch:
    """Return the command that starts the gateway with everything on or, if `full` is false, without keys, limits, journal and call records.

    The log goes to a file, because a gateway always writes a log. Several workers need Redis, even if nothing is counted.
    """
    more = more or More(models=FIT_MODEL if full else "")
    folder = place.folder
    folder.mkdir(parents=True, exist_ok=True)
    port, admin_port = free_port(), free_port()
    head = GATEWAY_YAML.format(port=port, admin_port=admin_port, upstream=place.upstream, providers=more.providers, models=more.models)
    store = "memory://" if workers == 1 and not full else f"redis://127.0.0.1:{place.redis()}/0"
    rest = FULL_YAML.format(store=store, folder=folder, digest=DIGEST, keys=more.keys) if full else BARE_YAML.format(store=store)
    config = folder / "gateway.yaml"
    config.write_text(head + rest)
    return Launch(
        name,
        [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--workers", str(workers), "--log", "json"],
        port,
        request_body(False),
        cores or TARGET_CORE,
        {"UPSTREAM_KEY": "upstream-credential", "LOCKGATE_STATE": str(folder / "state")},
        admin_port=admin_port,
    )


def nginx(
    name: str, folder: Path, upstream: int, *, tls: bool = False, workers: int = 0, cores: set[int] | None = None
) -> Launch | None:
    """Return the command that starts nginx as a plain proxy, or None if nginx is not installed. With `tls`, the upstream has TLS.

    Without `workers`, nginx is a single process.
    """
    command = _nginx_command(folder, upstream, port := free_port(), scheme="https" if tls else "http", workers=workers)
    return Launch(name, command, port, request_body(False), cores or TARGET_CORE) if command else None


def _nginx_command(
    folder: Path, upstream: int, port: int, *, scheme: str = "http", listen: str = "", certificate: str = "", workers: int = 0
) -> list[str] | None:
    path = program("nginx")
    if path is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    text = NGINX_CONF.format(
        folder=folder, upstream=upstream, port=port, files=FILES_WANTED, scheme=scheme, listen=listen, certificate=certificate,
        processes=f"worker_processes {workers};" if workers else "master_process off;",
    )  # fmt: skip
    config.write_text(text)
    return [path, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]


def haproxy(folder: Path, upstream: int) -> Launch | None:
    """Return the command that starts HAProxy with one thread, or None if it is not installed."""
    path = program("haproxy")
    if path is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY_CFG.format(port=(port := free_port()), upstream=upstream))
    return Launch("haproxy", [path, "-db", "-f", str(config)], port, request_body(False))


def _make_certificate(folder: Path) -> bool:
    """Write a certificate for 127.0.0.1 and its key to `folder`. Return False if openssl is not installed or fails."""
    path = program("openssl")
    if path is None:
        return False
    command = [path, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def start_redis(folder: Path) -> tuple[Process, int]:
    """Start a Redis that keeps nothing on disk, on the core of the load. Return its process and its port."""
    path = program("redis-server")
    if path is None:
        raise SystemExit("the benchmark needs Redis for its limits (Debian: apt install redis-server)")
    port = free_port()
    command = [path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=pinned(LOAD_CORE))
    wait_for_port(port)
    return process, port


def start_tls_front(folder: Path, upstream: int) -> tuple[Process, int] | None:
    """Start an nginx that serves the mock with TLS, on the core of the load. Return its process and its port.

    Return None if nginx or openssl is not installed, or if openssl fails.
    """
    front = folder / "tls"
    front.mkdir()
    certificate = f"ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key;"
    command = _nginx_command(front, upstream, port := free_port(), listen=" ssl", certificate=certificate)
    if command is None or not _make_certificate(folder):
        return None
    process = subprocess.Popen(command, preexec_fn=pinned(LOAD_CORE))
    wait_for_port(port)
    return process, port


def wait_for_port(port: int) -> None:
    """Wait until a server listens on the port. Raise BrokenTargetError after 30 seconds."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise BrokenTargetError(f"no server listens on port {port}")


def secure(folder: Path, port: int) -> More:
    """Return the configuration of a provider behind TLS and of its model."""
    url = f"https://127.0.0.1:{port}/v1"
    provider = f'  secure: {{ type: openai-compatible, base_url: "{url}", ca: {folder}/tls.crt, api_key: "${{UPSTREAM_KEY}}" }}\n'
    return More(provider, "  bench-tls: secure/bench-model\n")


def many(models: int, keys: int) -> More:
    """Return the configuration of models and keys that no call uses, and of the model `*` for all other names."""
    hashes = (hashlib.sha256(f"benchmark {at}".encode()).hexdigest() for at in range(keys))
    return More(
        models="".join(f"  model-{at}: mock/bench-model\n" for at in range(models)) + '  "*": mock/bench-model\n',
        keys="".join(f'  key-{at}: {{ hash: "sha256:{digest}" }}\n' for at, digest in enumerate(hashes)),
    )
