"""What the command line asks of a running gateway's admin listener. The admin key comes from LOCKGATE_ADMIN_KEY, never an argument."""

from __future__ import annotations

import os
from typing import Any

import click

KEY = "LOCKGATE_ADMIN_KEY"
PATIENCE = 15.0


def ask(method: str, url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON answer; ClickException with the gateway's own words when it refuses, or when it is not there."""
    import msgspec

    try:
        return msgspec.json.decode(fetch(method, url, path, body))
    except msgspec.DecodeError as error:
        raise click.ClickException(f"no gateway answers at {url}: {error}") from None


def fetch(method: str, url: str, path: str, body: dict[str, Any] | None = None) -> bytes:
    """The same as bytes."""
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, Request, build_opener

    import msgspec

    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--admin takes a URL such as http://127.0.0.1:8081, got '{url[:60]}'")
    headers = {"content-type": "application/json"} if body is not None else {}
    if key := os.environ.get(KEY):
        headers["authorization"] = f"Bearer {key}"
    data = msgspec.json.encode(body) if body is not None else None
    request = Request(url.rstrip("/") + path, data, headers, method=method)
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=PATIENCE) as answer:
            return bytes(answer.read())
    except HTTPError as error:
        raise click.ClickException(_refusal(error.code, error.read())) from None
    except (URLError, OSError, ValueError) as error:
        raise click.ClickException(f"no gateway answers at {url}: {getattr(error, 'reason', error)}") from None


def _refusal(status: int, body: bytes) -> str:
    import msgspec

    try:
        message = str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"the gateway answered {status}"
    return f"{message} (set {KEY})" if status == 401 and not os.environ.get(KEY) else message
