"""Names become addresses, off the loop and in threads of their own: a slow name server for one host delays no other."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Address = tuple[int, tuple[Any, ...]]
"""A socket family and what `connect` takes for it."""

Lookup = Callable[[str, int], Sequence[Address]]


class Resolver(Protocol):
    """Finds the addresses of a host. OSError (socket.gaierror is one) when there are none."""

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """All addresses, best first."""
        ...

    def forget(self, host: str, port: int) -> None:
        """Every address failed: ask anew next time."""
        ...


def is_allowed_address(address: str) -> bool:
    """Not what a name must never lead to: link-local addresses, where clouds keep their machines' credentials, and no host at all."""
    found = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    return not (found.is_link_local or found.is_multicast or found.is_unspecified)


def literal_address(host: str, port: int) -> list[Address] | None:
    """The address when `host` is an IP address already, else None."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 6:
        return [(socket.AF_INET6, (host, port, 0, 0))]
    return [(socket.AF_INET, (host, port))]


def look_up(host: str, port: int) -> list[Address]:
    """The system's resolver; blocks."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except UnicodeError as error:
        raise OSError(f"not a host name: {error}") from None
    return [(family, address) for family, _, _, _, address in found]


class ThreadResolver:
    """The system's resolver with one thread per host in flight, answers cached for `ttl` seconds.

    The loop's default executor is shared and bounded, so that a few slow lookups would block all (python/cpython#112169).
    """

    def __init__(self, ttl: float = 30.0, clock: Callable[[], float] = time.monotonic, lookup: Lookup = look_up) -> None:
        self.ttl = ttl
        self._clock = clock
        self._lookup = lookup
        self._cache: dict[tuple[str, int], tuple[float, Sequence[Address]]] = {}
        self._pending: dict[tuple[str, int], asyncio.Future[Sequence[Address]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """From the cache, or from a lookup that all who ask meanwhile share."""
        key = (host, port)
        known = self._cache.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        question = self._pending.get(key)
        if question is None:
            question = self._pending[key] = self._start_lookup(key)
        return await asyncio.shield(question)

    def forget(self, host: str, port: int) -> None:
        """Ask anew next time."""
        self._cache.pop((host, port), None)

    def _start_lookup(self, key: tuple[str, int]) -> asyncio.Future[Sequence[Address]]:
        loop = asyncio.get_running_loop()
        question: asyncio.Future[Sequence[Address]] = loop.create_future()

        def answer(addresses: Sequence[Address], error: OSError | None) -> None:
            self._pending.pop(key, None)
            if error is None:
                self._cache[key] = (self._clock() + self.ttl, addresses)
            if question.done():
                return
            if error is None:
                question.set_result(addresses)
            else:
                question.set_exception(error)
                question.exception()  # whoever asked may have left: nobody has to see it

        def work() -> None:
            addresses: Sequence[Address] = ()
            error: OSError | None = None
            try:
                addresses = self._lookup(*key)
            except OSError as failure:
                error = failure
            except Exception as failure:  # a lookup is foreign code: its failure must not leave the question open
                error = OSError(f"lookup failed: {failure!r}")
            if not loop.is_closed():
                loop.call_soon_threadsafe(answer, addresses, error)

        threading.Thread(target=work, name=f"dns {key[0]}", daemon=True).start()
        return question
