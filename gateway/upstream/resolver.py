"""Resolves each name in a separate thread, so that a slow name server for one host does not delay the lookups of other hosts."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

Address = tuple[int, tuple[Any, ...]]
"""A socket family and the matching argument of `socket.connect`."""

MAX_CACHED_ADDRESSES = 1024
"""Number of parsed addresses that are remembered, because each new connection asks for the same ones."""

Lookup = Callable[[str, int], Sequence[Address]]


class Resolver(Protocol):
    """Finds the addresses of a host. Raises OSError, such as socket.gaierror, if there are none."""

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """Return all addresses, best first."""
        ...

    def forget(self, host: str, port: int) -> None:
        """Look up the host again next time, for example because no address accepted a connection."""
        ...


@lru_cache(MAX_CACHED_ADDRESSES)
def is_allowed_address(address: str) -> bool:
    """Return whether upstreams may have this address.

    Link-local addresses are blocked because cloud metadata services offer credentials there. Multicast addresses and
    unspecified addresses such as 0.0.0.0 are blocked as well.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return not (ip.is_link_local or ip.is_multicast or ip.is_unspecified)


@lru_cache(MAX_CACHED_ADDRESSES)
def literal_address(host: str, port: int) -> tuple[Address] | None:
    """Return a tuple with the address if `host` is an IP address, else None."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 6:
        return ((socket.AF_INET6, (host, port, 0, 0)),)
    return ((socket.AF_INET, (host, port)),)


def look_up(host: str, port: int) -> list[Address]:
    """Return the addresses that the system's resolver finds. Raise OSError if it finds none. This call blocks."""
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except UnicodeError as error:
        raise OSError(f"invalid host name: {error}") from None
    return [(family, address) for family, _, _, _, address in entries]


class ThreadResolver:
    """The system's resolver with one thread per lookup in progress. Answers are cached for `ttl` seconds.

    The loop's default executor is shared and bounded: a few slow lookups would block all others (python/cpython#112169).
    """

    def __init__(self, ttl: float = 30.0, clock: Callable[[], float] = time.monotonic, lookup: Lookup = look_up) -> None:
        self.ttl = ttl
        self._clock = clock
        self._lookup = lookup
        self._cache: dict[tuple[str, int], tuple[float, Sequence[Address]]] = {}
        self._pending: dict[tuple[str, int], asyncio.Future[Sequence[Address]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        """Return the addresses from the cache, or from a lookup shared with concurrent requests."""
        key = (host, port)
        known = self._cache.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        lookup = self._pending.get(key)
        if lookup is None:
            lookup = self._pending[key] = self._start_lookup(key)
        return await asyncio.shield(lookup)

    def forget(self, host: str, port: int) -> None:
        """Look up the host again next time."""
        self._cache.pop((host, port), None)

    def _start_lookup(self, key: tuple[str, int]) -> asyncio.Future[Sequence[Address]]:
        loop = asyncio.get_running_loop()
        lookup: asyncio.Future[Sequence[Address]] = loop.create_future()

        def complete(addresses: Sequence[Address], error: OSError | None) -> None:
            self._pending.pop(key, None)
            if error is None:
                self._cache[key] = (self._clock() + self.ttl, addresses)
            if lookup.done():
                return
            if error is None:
                lookup.set_result(addresses)
            else:
                lookup.set_exception(error)
                lookup.exception()  # marks the error as retrieved: the caller may have been cancelled

        def work() -> None:
            addresses: Sequence[Address] = ()
            error: OSError | None = None
            try:
                addresses = self._lookup(*key)
            except OSError as failure:
                error = failure
            except Exception as failure:  # `lookup` is injected: no failure of it may leave the future pending
                error = OSError(f"lookup failed: {failure!r}")
            if not loop.is_closed():
                loop.call_soon_threadsafe(complete, addresses, error)

        threading.Thread(target=work, name=f"dns {key[0]}", daemon=True).start()
        return lookup
