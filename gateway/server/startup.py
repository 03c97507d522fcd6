"""Start-up messages, the download of the bundled model, and what triggers a reload."""

from __future__ import annotations

import asyncio
import socket
import sys

from gateway.config.load import Config
from gateway.http.listener import url_of
from gateway.runtime.reload import Outcome, Reloader


def report(line: str) -> None:
    """One line for the operator."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def download_bundled_model(config: Config) -> None:
    """Get the bundled model at the first start, where a local engine wants it; without it the gateway starts all the same."""
    if any(one.type == "local" and not one.options.get("model") for one in config.providers.values()):
        from providers.local import weights

        weights.prepare(report)


def request_reload(reloader: Reloader) -> None:
    """Look at the file again: SIGHUP, or a credential was refused that a file may have another one for by now."""
    task = asyncio.get_running_loop().create_task(reloader.reload())
    _reloads.add(task)
    task.add_done_callback(_reloads.discard)


_reloads: set[asyncio.Task[Outcome]] = set()
"""The event loop itself keeps only weak references to tasks."""


def announce(config: Config, listener: socket.socket, admin_listener: socket.socket) -> None:
    """Where we listen, and how to try it."""
    url = url_of(listener, tls=config.tls is not None)
    names = [name for name in config.models if "*" not in name]
    model = "local" if "local" in names else names[0] if names else "MODEL"
    key = "YOUR-KEY" if config.requires_keys else "unused"
    auth = f" -H 'authorization: Bearer {key}'" if config.requires_keys else ""
    report(f"listening on {url}")
    report(f"admin on {url_of(admin_listener)}  (/healthz /readyz /metrics /admin/config)")
    if config.requires_keys and not config.keys:
        report(f"keys are made at run time: lockgate key create --name NAME --admin {url_of(admin_listener)}")
    message = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'
    report(f"\n  curl {url}/v1/chat/completions{auth} -H 'content-type: application/json' -d '{message}'")
    report(
        f"\n  python -c \"from openai import OpenAI; print(OpenAI(base_url='{url}/v1', api_key='{key}').chat.completions.create("
        f"model='{model}', messages=[{{'role': 'user', 'content': 'What is the capital of France?'}}]).choices[0].message.content)\"\n"
    )
