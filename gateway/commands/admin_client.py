"""HTTP client for the admin listener of a running gateway."""

from __future__ import annotations

import os
from typing import Any

import click

# The admin key comes from the environment, because other users of the machine can read command line arguments.
ADMIN_KEY_VARIABLE = "LOCKGATE_ADMIN_KEY"
TIMEOUT_S = 15.0


def request_json(method: str, url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Return the JSON response.

    Raise ClickException if no gateway answers, if the gateway answers with an error, or if the response is not JSON.
    """
    import msgspec

    try:
        return msgspec.json.decode(request_bytes(method, url, path, body))
    except msgspec.DecodeError as error:
        raise click.ClickException(f"no gateway answers at {url}: {error}") from None


def request_bytes(
    method: str,
    url: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    key: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    """Return the response body. Raise ClickException if no gateway answers, or if the gateway answers with an error.

    `key` is the admin key; by default it is taken from the environment.
    """
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, Request, build_opener

    import msgspec

    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--admin must be a URL such as http://127.0.0.1:8081, not '{url[:60]}'")
    headers = {"content-type": "application/json"} if body is not None else {}
    key = key or os.environ.get(ADMIN_KEY_VARIABLE)
    if key:
        headers["authorization"] = f"Bearer {key}"
    data = msgspec.json.encode(body) if body is not None else None
    request = Request(url.rstrip("/") + path, data, headers, method=method)
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=timeout_s) as response:
            return bytes(response.read())
    except HTTPError as error:
        with error:
            raise click.ClickException(_error_message(error.code, error.read(), has_key=bool(key))) from None
    except (URLError, OSError, ValueError) as error:
        raise click.ClickException(f"no gateway answers at {url}: {getattr(error, 'reason', error)}") from None


def _error_message(status: int, body: bytes, *, has_key: bool) -> str:
    import msgspec

    try:
        message = str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, LookupError, TypeError):
        return f"the gateway responded with status {status}"
    return f"{message} (set {ADMIN_KEY_VARIABLE})" if status == 401 and not has_key else message
