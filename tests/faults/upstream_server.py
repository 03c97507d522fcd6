"""A scripted upstream: an OpenAI-like server that misbehaves on demand and keeps its own books.

    async with FaultUpstream() as up:
        up.base_url                                   # http://127.0.0.1:PORT/v1
        up.on("/v1/chat/completions", play(b"HTTP/1.1 200 OK\\r\\n", 0.1, RST))
        up.on(lambda request: request.model == "slow", drip(canned(b"{}")))
        up.once(status(429, headers={"retry-after": "1"}))   # the next request only
        ...
        up.requests[0].json["model"], up.ledger.open, up.requests[0].tokens

What is not scripted is answered as OpenAI would: see chat_script.py (`#chunks=40#` and `#delay=20ms#` in the request's text set
the number of chunks and their pace). A request whose `model` is the name of a behaviour (behaviours.py) gets that one, so that
a server in another process can be driven too:

    python -m tests.faults.upstream_server --port 0    # prints its base URL; GET /ledger tells its books as JSON

The books are the oracle: what a request cost is what this server sent, not what the gateway says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.faults.behaviours import BEHAVIOURS, canned, drip, play, status
from tests.faults.chat_script import answer_as_openai
from tests.faults.tls import TLS_FAULTS, Certificates, TlsFault
from tests.faults.upstream_wire import FIN, HANG, RST, Exchange, Gone, Ledger, Link, Request, Script, Wire

__all__ = [
    "BEHAVIOURS", "FIN", "HANG", "RST", "Exchange", "FaultUpstream", "Gone", "Ledger", "Link", "Request", "Script",
    "canned", "drip", "play", "status",
]  # fmt: skip

Match = str | Callable[[Request], bool]


class FaultUpstream:
    """One server. Defaults for unscripted chats: `chunks`, `delay` (seconds between events), `usage` (report it at all).

    `tls` picks a certificate fault (tests.faults.tls) and needs `certificates`; `unix` listens on a socket path instead of a port.
    """

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        unix: str | None = None,
        tls: TlsFault | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.unix = unix
        self.tls = tls
        self.certificates = certificates
        self.ledger = Ledger()
        self.wires: set[Wire] = set()
        self.failures: list[Exception] = []
        """Errors inside scripts: a test that ends with one raises it."""
        self.chunks = 5
        self.delay = 0.0
        self.usage = True
        self._rules: list[tuple[Match, Script, bool, bool]] = []
        self._server: asyncio.Server | None = None

    @property
    def origin(self) -> str:
        """Scheme and authority."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client or a target's `base_url` takes."""
        return f"{self.origin}/v1"

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in order of arrival."""
        return self.ledger.requests

    def on(self, match: Match, script: Script, early: bool = False) -> None:
        """Answer requests whose path equals `match` (or for which it is true) by `script`; the latest rule that matches wins.

        `early` runs the script as soon as the head is here and never reads the body (a predicate then sees an empty one).
        """
        self._rules.insert(0, (match, script, early, False))

    def once(self, script: Script, match: Match = lambda request: True) -> None:
        """Answer the next request that matches by `script`, before all other rules; several are used in the order given."""
        position = sum(rule[3] for rule in self._rules)
        self._rules.insert(position, (match, script, False, True))

    def reset(self) -> None:
        """Forget all rules and books; connections stay."""
        self._rules.clear()
        self.ledger.requests.clear()

    def match_early(self, request: Request) -> Script | None:
        """The script for a request whose body is not to be read."""
        return next((script for match, script, early, _ in self._rules if early and _matches(match, request)), None)

    def match(self, request: Request) -> Script:
        """The script for a request."""
        for rule in self._rules:
            match, script, early, once = rule
            if not early and _matches(match, request):
                if once:
                    self._rules.remove(rule)
                return script
        if request.path == "/ledger":
            return canned(json.dumps(self.ledger.as_json()).encode())
        return BEHAVIOURS.get(request.model or "", answer_as_openai)

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        context = None
        if self.tls is not None and self.tls != "stall":
            assert self.certificates is not None, "tls needs certificates"
            context = self.certificates.server_context(self.tls)
        if self.unix is not None:
            self._server = await loop.create_unix_server(lambda: Wire(self), self.unix, ssl=context)
            return
        self._server = await loop.create_server(lambda: Wire(self), self.host, self.port, ssl=context, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for wire in list(self.wires):
            await wire.stop()

    async def __aenter__(self) -> FaultUpstream:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        await self.stop()
        if self.failures and kind is None:
            raise self.failures[0]

    async def wait_for(self, condition: Callable[[FaultUpstream], bool], seconds: float = 10.0) -> None:
        """Until `condition(self)` holds; AssertionError if it never does."""
        end = asyncio.get_running_loop().time() + seconds
        while not condition(self):
            assert asyncio.get_running_loop().time() < end, f"not within {seconds} s: {self.ledger.as_json()}"
            await asyncio.sleep(0.002)


def _matches(match: Match, request: Request) -> bool:
    return request.path.split("?")[0] == match if isinstance(match, str) else match(request)


def closed_port() -> int:
    """A port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a listener whose backlog is full: no connection is refused, none comes about."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        crowd = [socket.socket() for _ in range(4)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        time.sleep(0.05)
        try:
            yield listener.getsockname()[1]
        finally:
            for one in crowd:
                one.close()


async def _serve(options: argparse.Namespace, directory: Path) -> None:
    certificates = Certificates(directory) if options.tls else None
    up = FaultUpstream(port=options.port, tls=options.tls, certificates=certificates)
    up.chunks, up.delay = options.chunks, options.delay / 1000
    async with up:
        sys.stdout.write(f"{up.base_url}\n" + (f"ca {certificates.ca}\n" if certificates else ""))
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="A scripted upstream", epilog="models: " + ", ".join(BEHAVIOURS))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--chunks", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds between events")
    parser.add_argument("--tls", choices=("good", *TLS_FAULTS))
    options = parser.parse_args()
    with TemporaryDirectory() as directory:
        try:
            asyncio.run(_serve(options, Path(directory)))
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
