"""A forward proxy as a process of its own: HTTP CONNECT or SOCKS 5, with or without credentials and TLS.

`python -m tests.support.connect_proxy --help` lists the options. The process prints its port, then one line for each tunnel that
a client requests.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hmac
import ipaddress
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

START_TIMEOUT_S = 60.0
LINE_TIMEOUT_S = 20.0


class RunningProxy:
    """A started proxy process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, scheme: str) -> None:
        self.process = process
        self.port = port
        self.scheme = scheme

    def url(self, credentials: str = "", host: str = "127.0.0.1") -> str:
        """Return the URL for the setting `proxy`. `credentials` has the form `USER:PASSWORD`."""
        return f"{self.scheme}://{credentials}{'@' if credentials else ''}{host}:{self.port}"

    async def next_tunnel(self) -> str:
        """Return the next tunnel that a client requested, such as `127.0.0.1:80 accepted`."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), LINE_TIMEOUT_S)
        return line.decode().strip()


@asynccontextmanager
async def connect_proxy(scheme: str = "http", *options: str) -> AsyncIterator[RunningProxy]:
    """Run a proxy within the block. `scheme` is that of its URL; `options` are those of the command line."""
    kind = "socks" if scheme.startswith("socks") else "http"
    command = (sys.executable, "-m", "tests.support.connect_proxy", "--kind", kind, *options)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S))
        yield RunningProxy(process, port, scheme)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class _RefusedError(Exception):
    pass


class _Proxy:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        negotiate = self._http if self.options.kind == "http" else self._socks
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, _RefusedError):
            host, port = await negotiate(reader, writer)
            await self._relay(reader, writer, host, port)
        writer.close()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        method, target, version = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert (method, version, headers["host"]) == ("CONNECT", "HTTP/1.1", target), head
        host, _, port = target.rpartition(":")
        expected = "Basic " + base64.b64encode(self.options.user.encode()).decode() if self.options.user else ""
        if not hmac.compare_digest(headers.get("proxy-authorization", ""), expected):
            answer = b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="p"\r\nContent-Length: 0\r\n\r\n'
        else:
            answer = self.options.answer.encode().decode("unicode_escape").encode()
        await self._answer(writer, f"{host}:{port}", answer, is_accepted=b" 200 " in answer)
        return host.strip("[]"), int(port)

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        _, count = await reader.readexactly(2)
        method = 2 if self.options.user else 0
        if method not in await reader.readexactly(count):
            await self._answer(writer, "?", b"\x05\xff", is_accepted=False)
        writer.write(bytes((5, method)))
        if self.options.user:
            user, password = [(await reader.readexactly((await reader.readexactly(size))[-1])).decode() for size in (2, 1)]
            if not hmac.compare_digest(f"{user}:{password}", self.options.user):
                await self._answer(writer, "?", b"\x01\x01", is_accepted=False)
            writer.write(b"\x01\x00")
        _, command, _, kind = await reader.readexactly(4)
        assert command == 1
        size = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        raw = await reader.readexactly(size)
        host = raw.decode() if kind == 3 else str(ipaddress.ip_address(raw))
        port = int.from_bytes(await reader.readexactly(2))
        reply = self.options.socks_reply
        await self._answer(writer, f"{host}:{port}", bytes((5, reply, 0, 3, 1)) + b"x\x00\x00", is_accepted=reply == 0)
        return host, port

    async def _answer(self, writer: asyncio.StreamWriter, target: str, answer: bytes, *, is_accepted: bool) -> None:
        _report(f"{target} {'accepted' if is_accepted else 'refused'}")
        if self.options.silent:
            await asyncio.Event().wait()
        writer.write(answer)
        await writer.drain()
        if not is_accepted:
            raise _RefusedError

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        there, back = await asyncio.open_connection(host, port)
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


def _report(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=("http", "socks"), required=True)
    parser.add_argument("--user", default="", help="USER:PASSWORD that clients must send")
    parser.add_argument("--tls", help="PEM file with the proxy's key and certificates")
    parser.add_argument("--silent", action="store_true", help="answer no request for a tunnel")
    parser.add_argument("--answer", default=r"HTTP/1.1 200 Connection established\r\n\r\n", help="response to CONNECT")
    parser.add_argument("--socks-reply", type=int, default=0, help="reply to a SOCKS request; 0 accepts it")
    options = parser.parse_args()
    context = None
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls)
    server = await asyncio.start_server(_Proxy(options).serve, "127.0.0.1", 0, ssl=context)
    _report(str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
