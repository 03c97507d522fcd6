"""A scripted upstream: an OpenAI-compatible server that misbehaves on demand and records its traffic in a ledger.

    async with FaultUpstream() as up:
        up.base_url                                   # http://127.0.0.1:PORT/v1
        up.on("/v1/chat/completions", play(b"HTTP/1.1 200 OK\\r\\n", 0.1, RST))
        up.on(lambda request: request.model == "slow", drip(canned(b"{}")))
        up.once(status(429, headers={"retry-after": "1"}))   # the next request only
        ...
        up.requests[0].json["model"], up.ledger.open, up.requests[0].tokens

Requests without a script are answered as OpenAI does: see chat_script.py (`#chunks=40#` and `#delay=20ms#` in the text of the
request set the number of chunks and their pace). A request whose `model` is the name of a behaviour (behaviours.py) gets
that behaviour, which also works for a server in another process:

    python -m tests.faults.upstream_server --port 0    # prints its base URL; GET /ledger returns the ledger as JSON

The ledger is the reference: a request used the tokens that this server sent, whatever the gateway reports.
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

from benchmarks.ports import free_port
from tests.faults.behaviours import BEHAVIOURS, canned, drip, play, status
from tests.faults.chat_script import answer_as_openai
from tests.faults.tls import TLS_FAULTS, Certificates, TlsFault
from tests.faults.upstream_wire import FIN, HANG, RST, ConnectionGoneError, Exchange, Ledger, Link, Request, Script, Wire
from tests.support.listener import Listener, listen, listen_at

__all__ = [
    "BEHAVIOURS", "FIN", "HANG", "RST", "ConnectionGoneError", "Exchange", "FaultUpstream", "Ledger", "Link", "Request", "Script",
    "canned", "drip", "play", "status",
]  # fmt: skip

Match = str | Callable[[Request], bool]


class FaultUpstream:
    """One server. Defaults of unscripted chats: `chunks`, `delay` (seconds between events), `usage` (whether it is sent).

    `tls` selects a certificate fault (tests.faults.tls) and needs `certificates`. `unix` is a socket path used instead of a port.
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
        """Exceptions raised by scripts. The first one is raised at the end of the test."""
        self.chunks = 5
        self.delay = 0.0
        self.usage = True
        self._rules: list[tuple[Match, Script, bool, bool]] = []
        self._listener: Listener | None = None

    @property
    def origin(self) -> str:
        """Return scheme and authority."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """Return the base URL for an OpenAI client or for `base_url` of a provider."""
        return f"{self.origin}/v1"

    @property
    def requests(self) -> list[Request]:
        """Return all requests so far, in order of arrival."""
        return self.ledger.requests

    def on(self, match: Match, script: Script, early: bool = False) -> None:
        """Answer requests with `script` if their path equals `match` or `match` returns True. The latest matching rule wins.

        With `early` the script runs as soon as the head has arrived, and the body is not read (a predicate sees an empty body).
        """
        self._rules.insert(0, (match, script, early, False))

    def once(self, script: Script, match: Match = lambda request: True) -> None:
        """Answer the next matching request with `script`, before all other rules. Earlier calls of `once` come first."""
        position = sum(rule[3] for rule in self._rules)
        self._rules.insert(position, (match, script, False, True))

    def reset(self) -> None:
        """Delete all rules and recorded requests. Connections stay open."""
        self._rules.clear()
        self.ledger.requests.clear()

    def match_early(self, request: Request) -> Script | None:
        """Return the script for a request whose body is not read. Return None if there is none."""
        return next((script for match, script, early, _ in self._rules if early and _matches(match, request)), None)

    def match(self, request: Request) -> Script:
        """Return the script for a request."""
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
        """Start listening."""
        context = None
        if self.tls is not None and self.tls != "stall":
            assert self.certificates is not None, "tls needs certificates"
            context = self.certificates.server_context(self.tls)
        if self.unix is not None:
            self._listener = listen_at(lambda: Wire(self), self.unix, context=context)
            return
        self._listener = listen(lambda: Wire(self), self.host, self.port, context=context)
        self.port = self._listener.port

    async def stop(self) -> None:
        """Stop listening and abort all connections."""
        if self._listener is not None:
            await self._listener.close()
        for wire in list(self.wires):
            await wire.stop()

    async def __aenter__(self) -> FaultUpstream:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        await self.stop()
        if self.failures and kind is None:
            raise self.failures[0]

    async def wait_for(self, condition: Callable[[FaultUpstream], bool], seconds: float = 60.0) -> None:
        """Wait until `condition(self)` holds. Fail after `seconds`."""
        end = asyncio.get_running_loop().time() + seconds
        while not condition(self):
            state = self.ledger.as_json() if asyncio.get_running_loop().time() >= end else None
            assert state is None, f"the condition did not hold within {seconds} s: {str(state)[:2000]}"
            await asyncio.sleep(0.002)

    async def settled(self) -> int:
        """Wait until the script of the last request is blocked by its reader. Return the number of bytes that it has sent.

        It is blocked after 0.2 s and 50 turns of the event loop without a byte. A pause of the machine has no such turns.
        """
        sent, turns, quiet_until = -1, 0, 0.0
        while turns < 50 or asyncio.get_running_loop().time() < quiet_until:
            if self.requests[-1].sent != sent:
                sent, turns, quiet_until = self.requests[-1].sent, 0, asyncio.get_running_loop().time() + 0.2
            await asyncio.sleep(0.002)
            turns += 1
        return sent


def _matches(match: Match, request: Request) -> bool:
    return request.path.split("?")[0] == match if isinstance(match, str) else match(request)


def closed_base_url() -> str:
    """Return the base URL of a port without a listener."""
    return f"http://127.0.0.1:{free_port()}/v1"


@contextmanager
def unreachable_base_url() -> Iterator[str]:
    """Yield the base URL of a port on which connections are neither refused nor accepted."""
    with full_backlog() as port:
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def full_backlog() -> Iterator[int]:
    """Yield the port of a listener with a full backlog, which neither refuses nor accepts connections."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        time.sleep(0.05)
        try:
            yield listener.getsockname()[1]
        finally:
            for client in clients:
                client.close()


async def _serve(options: argparse.Namespace, directory: Path) -> None:
    certificates = Certificates(directory) if options.tls else None
    up = FaultUpstream(port=options.port, tls=options.tls, certificates=certificates)
    up.chunks, up.delay = options.chunks, options.delay / 1000
    async with up:
        sys.stdout.write(f"{up.base_url}\n" + (f"ca {certificates.ca}\n" if certificates else ""))
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(description="Run a scripted upstream.", epilog="models: " + ", ".join(BEHAVIOURS))
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
