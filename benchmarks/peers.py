"""Other gateways, installed from their registries by `make bench-peers`, with their documented settings for one upstream.

All other settings keep their defaults. Each gateway runs on the same core as Lockgate. Only LiteLLM checks a key, and
none of them enforces limits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bodies import request_body
from benchmarks.ports import free_port
from benchmarks.processes import HERE, KEY, Launch, program

INSTALLED = HERE.parent / ".peers"
"""One folder per gateway: a virtual environment, or the packages of npm."""


@dataclass(frozen=True)
class Peer:
    """Another gateway: its description, the function that returns its command, and whether many connections take minutes to measure."""

    about: str
    launch: Callable[[Path, int], Launch | None]
    slow: bool = False


def _router(name: str, *command: str) -> Callable[[Path, int], Launch | None]:
    """Return the `launch` of a router for model servers that accepts the command line of sglang-router."""

    def launch(folder: Path, upstream: int) -> Launch | None:
        path = INSTALLED / name / "bin" / command[0]
        if not path.exists():
            return None
        port, metrics = free_port(), free_port()
        arguments = ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", f"http://127.0.0.1:{upstream}"]
        arguments += ["--policy", "round_robin", "--prometheus-port", str(metrics)]
        return Launch(name, [str(path), *command[1:], *arguments], port, request_body(False))

    return launch


def _portkey(folder: Path, upstream: int) -> Launch | None:
    """Return the command that starts Portkey, which takes the upstream from the headers of each call, or None if it is not installed."""
    script = INSTALLED / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    node = program("node")
    if node is None or not script.exists():
        return None
    port = free_port()
    headers = f"x-portkey-provider: openai\r\nx-portkey-custom-host: http://127.0.0.1:{upstream}/v1\r\n"
    environment = {"NODE_ENV": "production"}
    command = [node, str(script), f"--port={port}", "--headless"]
    return Launch("portkey", command, port, request_body(False), environment=environment, headers=headers)


LITELLM_YAML = """\
model_list:
  - model_name: bench
    litellm_params: {{ model: openai/bench-model, api_base: "http://127.0.0.1:{upstream}/v1", api_key: upstream-credential }}
litellm_settings: {{ telemetry: false }}
"""


def _litellm(folder: Path, upstream: int) -> Launch | None:
    path = INSTALLED / "litellm" / "bin" / "litellm"
    if not path.exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "litellm.yaml"
    config.write_text(LITELLM_YAML.format(upstream=upstream))
    port = free_port()
    # the prices of its models come from the package, not from the network
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": KEY,
        "NO_DOCS": "True",
        "HOME": os.environ.get("HOME", "/"),
    }
    command = [str(path), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return Launch("litellm", command, port, request_body(False), environment=environment, deadline=120)


PEERS: dict[str, Peer] = {
    "vllm-router": Peer("the router of vLLM, in Rust", _router("vllm-router", "vllm-router")),
    "sglang-router": Peer("the router of SGLang, in Rust", _router("sglang-router", "python", "-m", "sglang_router.launch_router")),
    "smg": Peer("the Shepherd Model Gateway, in Rust", _router("smg", "smg", "launch")),
    "portkey": Peer("Portkey's gateway, on Node.js", _portkey, slow=True),
    "litellm": Peer("LiteLLM's proxy, in Python, with a key", _litellm, slow=True),
}
