"""Measure the CPU time of the upstream client alone, against a mock in another process.

    python -m benchmarks.client [--requests 20000] [--concurrency 1 32]

The program prints the user and system time of this process per request, for JSON (1.4 KB up, 600 B down) and SSE (51 events in one piece).
For spaced events (51 events 20 ms apart, 64 concurrent streams), it prints the time of one event that arrives alone.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import statistics
import sys
from multiprocessing.connection import Connection as Pipe
from typing import cast

import uvloop

from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin
from providers.base import WireRequest

BODY = b'{"model":"mock","messages":[{"role":"user","content":"' + b"x" * 1380 + b'"}]}'
ANSWER = b'{"id":"1","object":"chat.completion","choices":[{"message":{"content":"' + b"y" * 500 + b'"}}]}'
HEADERS = [("content-type", "application/json"), ("authorization", "Bearer none"), ("user-agent", "benchmark")]
JSON_REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: mock\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
_EVENT = b"data: " + b"z" * 186 + b"\n\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_CHUNK = b"%x\r\n%s\r\n" % (len(_EVENT), _EVENT)
EVENTS = 51
SSE_REPLY = SSE_HEAD + _CHUNK * EVENTS + b"0\r\n\r\n"


class Mock(asyncio.Protocol):
    """Mock upstream: answers every request whose body is BODY, with a stream if the path begins with `/sse` or `/spaced`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport of a new connection."""
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer when head and body are complete."""
        self.buffer += data
        if self.buffer.endswith(BODY):
            if self.buffer.startswith(b"POST /spaced"):
                self.transport.write(SSE_HEAD)
                self.send_later(EVENTS)
            else:
                self.transport.write(SSE_REPLY if self.buffer.startswith(b"POST /sse") else JSON_REPLY)
            self.buffer = b""

    def send_later(self, left: int) -> None:
        """Send the remaining events of a spaced stream."""
        if left:
            self.transport.write(_CHUNK)
            asyncio.get_running_loop().call_later(0.02, self.send_later, left - 1)
        else:
            self.transport.write(b"0\r\n\r\n")


def pin(core: int) -> None:
    """Pin the process to one core, if the process may use this core."""
    if core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {core})


def run_mock(pipe: Pipe) -> None:
    """Send the port to the pipe, then serve until killed."""
    pin(1)

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


async def drive(transport: NativeTransport, origin: Origin, path: str, requests: int, concurrency: int) -> float:
    """Send the requests and return the CPU time per request in microseconds."""
    deadlines = Deadlines()
    left = iter(range(requests))

    async def work() -> None:
        for _ in left:
            response = await transport.send(origin, WireRequest(path, HEADERS, BODY), deadlines)
            if path != "/json":
                while await response.read():
                    pass
            else:
                await response.body(1 << 20)
            response.close()

    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.gather(*[work() for _ in range(concurrency)])
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / requests * 1e6


async def measure(port: int, requests: int, concurrency: int, repetitions: int) -> None:
    """Print the median and range for JSON and SSE after a warm-up, the median for spaced events, and the counts of connections."""
    transport = NativeTransport()
    origin = Origin("http", "127.0.0.1", port)
    for path in ("/json", "/sse"):
        count = requests if path == "/json" else max(1, requests // 8)
        await drive(transport, origin, path, concurrency * 20, concurrency)
        taken = [await drive(transport, origin, path, count, concurrency) for _ in range(repetitions)]
        low, middle, high = min(taken), statistics.median(taken), max(taken)
        sys.stdout.write(f"{path[1:]:6} c={concurrency:<4} {middle:7.1f} us/request ({low:.1f}-{high:.1f})\n")
    taken = [await drive(transport, origin, "/spaced", 64, 64) / EVENTS for _ in range(2)]
    sys.stdout.write(f"spaced c=64   {statistics.median(taken):7.1f} us/event\n")
    sys.stdout.write(f"connects {transport.stats.connects}, reuses {transport.stats.reuses}\n")
    await transport.aclose()


def main() -> None:
    """Parse the command line, start the mock, and measure."""
    parser = argparse.ArgumentParser(description="CPU cost of the upstream client")
    parser.add_argument("--requests", type=int, default=20000)
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1, 32])
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    mock = context.Process(target=run_mock, args=(theirs,), daemon=True)
    mock.start()
    pin(0)
    try:
        port = ours.recv()
        for concurrency in options.concurrency:
            uvloop.run(measure(port, options.requests, concurrency, options.repetitions))
    finally:
        mock.kill()


if __name__ == "__main__":
    main()
