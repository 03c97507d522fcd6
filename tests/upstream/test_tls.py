"""The authorities that connections trust: those in the file now, read once for all connections."""

from __future__ import annotations

import asyncio
import ssl
import threading

from gateway.upstream.tls import TlsContexts
from gateway.upstream.transport import TlsFiles
from tests.flows.live import eventually


async def test_a_file_that_changes_while_it_is_read_is_read_again() -> None:
    may_go_on, reads = threading.Event(), 0

    def make(files: TlsFiles) -> ssl.SSLContext:
        nonlocal reads
        reads += 1
        assert may_go_on.wait(30)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    contexts = TlsContexts(make)
    before = asyncio.create_task(contexts.get(TlsFiles("ca.pem")))
    await eventually(lambda: reads == 1)
    contexts.refresh()  # from here on the file has other authorities
    may_go_on.set()
    old = await before
    new = await contexts.get(TlsFiles("ca.pem"))
    assert new is not old
    assert await contexts.get(TlsFiles("ca.pem")) is new
    assert reads == 2
