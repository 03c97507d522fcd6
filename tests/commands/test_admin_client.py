"""The client of the admin listener."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import click
import pytest

from gateway.commands.admin_client import ADMIN_KEY_VARIABLE, request_bytes, request_json


class AdminListener(HTTPServer):
    """Answers each request with `response` and keeps the Authorization headers."""

    response: tuple[int, bytes] = (200, b"{}")

    def __init__(self) -> None:
        self.authorizations: list[str | None] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: AdminListener

    def do_GET(self) -> None:
        self.server.authorizations.append(self.headers.get("authorization"))
        status, body = self.server.response
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Do not log to stderr."""


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminListener]:
    """Run a listener without an admin key in the environment."""
    monkeypatch.delenv(ADMIN_KEY_VARIABLE, raising=False)
    with AdminListener() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_key_comes_from_the_argument_else_from_the_environment(
    listener: AdminListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert request_json("GET", listener.url + "/", "/admin/keys") == {}
    monkeypatch.setenv(ADMIN_KEY_VARIABLE, "from-environment")
    request_bytes("GET", listener.url, "/admin/keys")
    request_bytes("GET", listener.url, "/admin/keys", key="from-argument")
    assert listener.authorizations == [None, "Bearer from-environment", "Bearer from-argument"]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ((401, b'{"error": {"message": "Key required."}}'), "Key required. (set LOCKGATE_ADMIN_KEY)"),
        ((400, b'{"error": {"message": "Wrong date."}}'), "Wrong date."),
        ((502, b"<html>"), "the gateway responded with status 502"),
        ((200, b"<html>"), "no gateway answers at"),
    ],
)
def test_error_response_becomes_a_message(listener: AdminListener, response: tuple[int, bytes], message: str) -> None:
    listener.response = response
    with pytest.raises(click.ClickException) as error:
        request_json("GET", listener.url, "/admin/targets")
    assert error.value.message.startswith(message)


def test_url_without_a_scheme_is_a_usage_error() -> None:
    with pytest.raises(click.UsageError, match="--admin must be a URL such as"):
        request_bytes("GET", "localhost", "/metrics")
