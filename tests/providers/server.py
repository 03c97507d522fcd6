"""A recording upstream: it keeps every request and answers it with a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import MappingProxyType
from typing import Any, NamedTuple


class Request(NamedTuple):
    """A request: path with query, headers by lower-case name, JSON body."""

    path: str
    headers: Mapping[str, str]
    body: Any


class Reply(NamedTuple):
    """A response."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = MappingProxyType({})


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})) -> Reply:
    """Return a JSON response."""
    return Reply(status, json.dumps(value).encode(), headers=headers)


def stream_reply(events: list[bytes]) -> Reply:
    """Return a stream of complete events."""
    return Reply(200, b"".join(event + b"\n\n" for event in events), "text/event-stream")


def data_events(chunks: list[Any], *, done: bool = True) -> list[bytes]:
    """Return `data:` events for JSON chunks, with [DONE] at the end."""
    return [b"data: " + json.dumps(chunk).encode() for chunk in chunks] + ([b"data: [DONE]"] if done else [])


Answer = Callable[[Request], Reply]


class Upstream:
    """A server on a free loopback port, in threads. Tests may replace `answer` between calls."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._requests: list[Request] = []
        self._lock = Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                source = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = outer.take(Request(self.path, headers, json.loads(source)))
                self.send_response(reply.status)
                for name, value in {"content-type": reply.content_type, **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Disable logging."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def take(self, request: Request) -> Reply:
        """Record a request and answer it."""
        with self._lock:
            self._requests.append(request)
        return self.answer(request)

    def taken(self) -> list[Request]:
        """Return the requests since the last call of this method."""
        with self._lock:
            result, self._requests = self._requests, []
        return result

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()
