"""Name resolution: distinct failures, slow lookups that delay no other, several addresses raced."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Sequence

import pytest

from benchmarks.ports import free_port
from gateway.upstream.dial import interleave
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.resolver import Address, ThreadResolver
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from tests.faults.upstream_server import FaultUpstream, full_backlog
from tests.upstream.conftest import BRISK, request_for


def v4(port: int, host: str = "127.0.0.1") -> Address:
    """Return one IPv4 address."""
    return (socket.AF_INET, (host, port))


class Fixed:
    """A resolver with a table of addresses and errors."""

    def __init__(self, **answers: Sequence[Address] | OSError) -> None:
        self.answers = answers
        self.forgotten: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        answer = self.answers[host]
        if isinstance(answer, OSError):
            raise answer
        return answer

    def forget(self, host: str, port: int) -> None:
        self.forgotten.append(host)


async def call(native: NativeTransport, host: str, port: int, deadlines: Deadlines = BRISK) -> int:
    """Send one call and return the status of its response."""
    response = await native.send(Origin("http", host, port), request_for(), deadlines)
    await response.body(1 << 20)
    response.close()
    return response.status


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL])
async def test_u3_names_that_do_not_resolve_are_dns_errors(code: int) -> None:
    native = NativeTransport(resolver=Fixed(absent=socket.gaierror(code, "no such name")))
    with pytest.raises(UpstreamError) as caught:
        await call(native, "absent", 80)
    assert caught.value.kind == "dns"
    assert "absent" in caught.value.message
    assert native.in_use == 0
    await native.aclose()


@pytest.mark.parametrize("host", ["no-such-name.invalid", "a..b", "x" * 70 + ".example"])
async def test_u3_the_systems_resolver_fails_as_a_dns_error(host: str) -> None:
    native = NativeTransport()
    with pytest.raises(UpstreamError) as caught:
        await call(native, host, 80)
    assert caught.value.kind == "dns"
    await native.aclose()


async def test_u3_a_slow_lookup_delays_no_other(up: FaultUpstream) -> None:
    release = threading.Event()

    def lookup(host: str, port: int) -> list[Address]:
        if host.startswith("slow"):
            release.wait(20)
        return [v4(port)]

    native = NativeTransport(resolver=ThreadResolver(lookup=lookup))
    slow = [asyncio.ensure_future(call(native, f"slow-{number}", up.port)) for number in range(50)]
    await asyncio.sleep(0.05)
    assert await call(native, "quick", up.port) == 200
    assert not any(call.done() for call in slow)
    release.set()
    assert await asyncio.gather(*slow) == [200] * 50
    await native.aclose()


async def test_u3_a_lookup_beyond_its_deadline_is_a_dns_error() -> None:
    release = threading.Event()

    def lookup(host: str, port: int) -> list[Address]:
        release.wait(20)
        return [v4(port)]

    native = NativeTransport(resolver=ThreadResolver(lookup=lookup))
    before = time.monotonic()
    with pytest.raises(UpstreamError) as caught:
        await call(native, "slow", 80, Deadlines(connect=0.3))
    assert caught.value.kind == "dns"
    assert 0.27 <= time.monotonic() - before < 15
    release.set()
    await native.aclose()


async def test_u3_an_address_that_changes_every_time_is_looked_up_again_when_it_fails(up: FaultUpstream) -> None:
    dead = free_port()
    answers = iter([[v4(dead)], [v4(up.port)], [v4(dead)], [v4(up.port)]])
    native = NativeTransport(resolver=ThreadResolver(lookup=lambda host, port: next(answers)), keepalive=0)
    with pytest.raises(UpstreamError) as caught:
        await call(native, "flapping", 80)
    assert caught.value.kind == "connect"
    assert await call(native, "flapping", 80) == 200
    await native.aclose()


async def test_lookups_are_cached_and_shared(up: FaultUpstream) -> None:
    lookups: list[str] = []
    now = [0.0]

    def lookup(host: str, port: int) -> list[Address]:
        lookups.append(host)
        time.sleep(0.05)
        return [v4(port)]

    resolver = ThreadResolver(ttl=10, clock=lambda: now[0], lookup=lookup)
    await asyncio.gather(*[resolver.resolve("one", 80) for _ in range(20)])
    await resolver.resolve("one", 80)
    assert lookups == ["one"]
    now[0] = 11
    await resolver.resolve("one", 80)
    assert lookups == ["one", "one"]


async def test_cancelling_a_call_does_not_cancel_a_shared_lookup() -> None:
    release = threading.Event()

    def lookup(host: str, port: int) -> list[Address]:
        release.wait(20)
        return [v4(port)]

    resolver = ThreadResolver(lookup=lookup)
    first, second = (asyncio.ensure_future(resolver.resolve("one", 80)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    release.set()
    assert await second == [v4(80)]
    assert first.cancelled()


async def test_the_failure_of_an_abandoned_lookup_is_not_logged() -> None:
    lost: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: lost.append(context["message"]))
    release = threading.Event()

    def lookup(host: str, port: int) -> list[Address]:
        release.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    resolver = ThreadResolver(lookup=lookup)
    asking = asyncio.ensure_future(resolver.resolve("one", 80))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    del asking
    release.set()
    await asyncio.sleep(0.1)
    gc.collect()
    assert lost == []


async def test_an_address_that_refuses_is_skipped(up: FaultUpstream) -> None:
    native = NativeTransport(resolver=Fixed(many=[v4(free_port()), v4(free_port()), v4(up.port)]))
    assert await call(native, "many", 80) == 200
    await native.aclose()


async def test_an_address_that_does_not_respond_is_overtaken(up: FaultUpstream) -> None:
    with full_backlog() as port:
        native = NativeTransport(resolver=Fixed(many=[v4(port), v4(up.port)]))
        assert await call(native, "many", 80) == 200
    await native.aclose()


async def test_when_every_address_fails_the_last_error_is_raised_and_the_cache_cleared() -> None:
    resolver = Fixed(many=[v4(free_port()), v4(free_port())])
    native = NativeTransport(resolver=resolver)
    with pytest.raises(UpstreamError) as caught:
        await call(native, "many", 80)
    assert caught.value.kind == "connect"
    assert resolver.forgotten == ["many"]
    await native.aclose()


async def test_u4_a_blocked_address_is_not_connected_to(up: FaultUpstream) -> None:
    native = NativeTransport(resolver=Fixed(rebound=[v4(up.port)]), is_allowed=lambda address: not address.startswith("127."))
    with pytest.raises(UpstreamError) as caught:
        await call(native, "rebound", 80)
    assert caught.value.kind == "blocked"
    assert up.ledger.accepted == 0
    await native.aclose()


def test_address_families_alternate() -> None:
    six = [(socket.AF_INET6, (f"::{number}", 80, 0, 0)) for number in range(2)]
    four = [v4(80, f"10.0.0.{number}") for number in range(3)]
    assert interleave([*six, *four]) == [six[0], four[0], six[1], four[1], four[2]]
    assert interleave([*four, *six]) == [four[0], six[0], four[1], six[1], four[2]]
