"""The number of functions that the gateway calls for one call: a measure of work that does not depend on the machine or its load."""

from __future__ import annotations

import asyncio
import json
import socket
import socketserver
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from tests.fast.conftest import Pair, StartPair
from tests.faults.behaviours import chat_chunk, completion
from tests.faults.client import CHAT_PATH, chat, request_head
from tests.flows.live import Live
from tests.running import Figure

CALLS, BATCHES = 20, 5
MOST = {False: 770, True: 1050}
"""Maximum number of functions for one call, as JSON and as a stream of five events. Lower it when fewer are called."""
EVENTS = [chat_chunk("", role="assistant"), *[chat_chunk(f"word {number} ") for number in range(3)], chat_chunk(finish="stop")]
STREAM = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in EVENTS) + b"data: [DONE]\n\n"
ANSWER = completion("some words")


class Upstream(socketserver.BaseRequestHandler):
    """Answers the requests of one connection, in a thread of its own."""

    request: socket.socket
    answers: Mapping[bytes, tuple[bytes, bytes]] = {b"": (ANSWER, STREAM)}
    """A JSON answer and a stream for each path, or for all paths."""

    def handle(self) -> None:
        """Answer until the gateway closes the connection."""
        while data := self.request.recv(65536):
            head = data.partition(b"\r\n")[0]
            answer, stream = next(both for path, both in self.answers.items() if path in head)
            kind, body = (b"text/event-stream", stream) if b'"stream"' in data else (b"application/json", answer)
            self.request.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(body), body))


@contextmanager
def serving(upstream: type[Upstream]) -> Iterator[int]:
    """Serve an upstream in other threads. Return its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def other_upstream() -> Iterator[int]:
    """Serve an upstream of chat completions in other threads. Return its port."""
    with serving(Upstream) as port:
        yield port


def send_calls(port: int, body: bytes, calls: int, path: str = CHAT_PATH, headers: Iterable[tuple[str, str]] = ()) -> None:
    """Make calls one after another on one connection, without the event loop."""
    request = request_head(len(body), headers, path) + body
    end = b"0\r\n\r\n" if b'"stream"' in body else b"}"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        for _ in range(calls):
            client.sendall(request)
            received = b""
            while not received.endswith(end):
                piece = client.recv(65536)
                assert piece, received
                received += piece
            assert received.startswith(b"HTTP/1.1 200 "), received


async def functions_of_a_call(
    gateway: Live, fields: Mapping[str, Any], path: str = CHAT_PATH, headers: Iterable[tuple[str, str]] = ()
) -> float:
    """Return the number of function calls, in Python and in C, that the thread of the gateway makes to serve one request.

    The number is that of the cheapest of several batches, because a slow machine adds timers and pieces to a batch.
    """
    body = json.dumps(fields).encode()
    await asyncio.to_thread(send_calls, gateway.port, body, 20, path, headers)
    calls = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    batches = []
    sys.setprofile(count)
    try:
        for _ in range(BATCHES):
            calls = 0
            await asyncio.to_thread(send_calls, gateway.port, body, CALLS, path, headers)
            batches.append(calls / CALLS)
    finally:
        sys.setprofile(None)
    return min(batches)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_a_plain_call_takes_few_steps(other_upstream: int, start_pair: StartPair, stream: bool, figure: Figure) -> None:
    pair: Pair = await start_pair(f"""
providers:
  up: {{ type: openai-compatible, base_url: "http://127.0.0.1:{other_upstream}/v1" }}
models:
  m: {{ targets: up/mock, limits: {{ requests: 1M/min, tokens: 1000M/min }} }}
""")
    form = "stream" if stream else "JSON"
    body = chat(temperature=0.5, max_tokens=99, **({"stream": True} if stream else {}))
    fast, slow = [await functions_of_a_call(gateway, body) for gateway in pair.both]
    figure(f"functions of a call, fast lane, {form}", fast, "")
    figure(f"functions of a call, pipeline, {form}", slow, "")
    assert fast <= MOST[stream]
    assert fast < slow
