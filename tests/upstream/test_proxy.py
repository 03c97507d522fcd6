"""Proxies: the choice of a proxy, the data that it can read, and requests that never bypass it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from gateway.upstream.httpx_transport import HttpxTransport
from gateway.upstream.proxy import proxy_of
from gateway.upstream.transport import Origin, TlsFiles, UpstreamError
from providers.base import WireRequest
from tests.faults.tls import Certificates
from tests.faults.upstream_server import FaultUpstream, canned
from tests.flows.conftest import chat
from tests.flows.live import live
from tests.support.each import each
from tests.support.listener import serve_streams
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.upstream.conftest import BRISK, request_for

BOTH = {"http_proxy": "http://plain:1", "HTTPS_PROXY": "http://tls:2"}


@each(("url", "environ", "expected"), [
    ("http://up/v1", BOTH, "http://plain:1"),
    ("https://up/v1", BOTH, "http://tls:2"),
    ("https://up/v1", {}, None),
    ("https://up/v1", {"ALL_PROXY": "socks5://any:3"}, "socks5://any:3"),
    ("https://up/v1", {"https_proxy": "lower:1", "HTTPS_PROXY": "upper:1"}, "http://lower:1"),
    ("http://up/v1", {"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}, None),
    ("https://up/v1", {**BOTH, "NO_PROXY": "*"}, None),
    ("https://up/v1", {**BOTH, "NO_PROXY": "other, up"}, None),
    ("https://api.up.example/v1", {**BOTH, "no_proxy": ".up.example"}, None),
    ("https://api.up.example/v1", {**BOTH, "no_proxy": "up.example"}, None),
    ("https://notup.example/v1", {**BOTH, "no_proxy": "up.example"}, "http://tls:2"),
    ("https://10.1.2.3/v1", {**BOTH, "no_proxy": "10.0.0.0/8"}, None),
    ("https://[fd00::1]:8/v1", {**BOTH, "no_proxy": "fd00::/8"}, None),
    ("https://up:444/v1", {**BOTH, "no_proxy": "up:443"}, "http://tls:2"),
    ("https://up:443/v1", {**BOTH, "no_proxy": "up:443"}, None),
])  # fmt: skip
def test_the_proxy_is_read_from_the_environment_only_on_request(url: str, environ: Mapping[str, str], expected: str | None) -> None:
    assert proxy_of("env", url, environ) == expected
    assert proxy_of(None, url, environ) is None
    assert proxy_of("http://own:1", url, environ) == "http://own:1"


@contextlib.asynccontextmanager
async def relaying(greet: str) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Run a proxy that tunnels every request. Yield its port and the data that it read in clear text. `greet` is connect or socks5."""
    received: list[bytes] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if greet == "connect":
            head = await reader.readuntil(b"\r\n\r\n")
            received.append(head)
            host, port = head.split(b" ")[1].split(b":")
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            _, count = await reader.readexactly(2)
            await reader.readexactly(count)
            writer.write(b"\x05\x00")
            *_, kind = await reader.readexactly(4)
            host = await reader.readexactly((await reader.readexactly(1))[0]) if kind == 3 else bytes(await reader.readexactly(4))
            port = b"%d" % int.from_bytes(await reader.readexactly(2))
            received.append(host)
            host = b".".join(b"%d" % part for part in host) if kind == 1 else host
            writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        upstream, back = await asyncio.open_connection(host.decode(), int(port))
        try:
            await asyncio.gather(pump(reader, back), pump(upstream, writer))
        finally:
            back.transport.abort()

    async with serve_streams(serve) as server:
        yield server.port, received


async def test_a_proxy_of_a_tls_upstream_sees_the_host_name_but_no_upstream_credential(
    certificates: Certificates,
) -> None:
    async with FaultUpstream(tls="good", certificates=certificates) as up, relaying("connect") as (port, received):
        transport = HttpxTransport()
        origin = Origin("https", "127.0.0.1", up.port, tls=TlsFiles(str(certificates.ca)), proxy=f"http://us:pass@127.0.0.1:{port}")
        request = WireRequest("/v1/chat/completions", [("authorization", "Bearer sk-of-the-upstream")], b"{}")
        response = await transport.send(origin, request, BRISK)
        assert response.status == 200
        response.close()
        await transport.aclose()
    (head,) = received
    assert head.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % up.port)
    assert b"sk-of-the-upstream" not in head
    assert b"roxy-" in head
    sent = dict(up.requests[0].headers)
    assert sent["authorization"] == "Bearer sk-of-the-upstream"
    assert not [name for name in sent if name.startswith("proxy-")]


async def test_certificates_are_verified_through_a_proxy(certificates: Certificates) -> None:
    async with FaultUpstream(tls="wrong_host", certificates=certificates) as up, relaying("connect") as (port, _):
        transport = HttpxTransport()
        origin = Origin("https", "127.0.0.1", up.port, tls=TlsFiles(str(certificates.ca)), proxy=f"http://127.0.0.1:{port}")
        with pytest.raises(UpstreamError) as caught:
            await transport.send(origin, request_for(), BRISK)
        await transport.aclose()
    assert caught.value.kind == "tls"
    assert up.requests == []


async def test_socks_proxies_are_supported(up: FaultUpstream) -> None:
    async with relaying("socks5") as (port, received):
        transport = HttpxTransport()
        response = await transport.send(Origin("http", "127.0.0.1", up.port, proxy=f"socks5://127.0.0.1:{port}"), request_for(), BRISK)
        assert response.status == 200
        response.close()
        await transport.aclose()
    assert len(received) == len(up.requests) == 1


async def test_only_providers_with_proxy_env_use_the_environments_proxy(
    up: FaultUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FaultUpstream() as proxy, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=30) as client:
        answer = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"by proxy"},"finish_reason":"stop"}]}'
        proxy.on(lambda request: request.path.startswith("http://"), canned(answer))
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        yaml = f"""
providers:
  asked: {{ type: openai-compatible, base_url: "http://upstream.invalid/v1", proxy: env }}
  unasked: {{ type: openai-compatible, base_url: "{up.base_url}" }}
models: {{ a: asked/x, u: unasked/x }}
"""
        async with live(yaml) as gateway:
            through = await client.post(gateway.base_url + "/chat/completions", json=chat("a"))
            past = await client.post(gateway.base_url + "/chat/completions", json=chat("u"))
    assert through.json()["choices"][0]["message"]["content"] == "by proxy"
    assert past.status_code == 200
    assert [request.path for request in proxy.requests] == ["http://upstream.invalid/v1/chat/completions"]
    assert len(up.requests) == 1
