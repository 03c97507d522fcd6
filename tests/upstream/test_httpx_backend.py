"""Addresses of the httpx transport: resolved by the gateway's resolver and checked before they are used."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import httpcore
import pytest

from benchmarks.ports import free_port
from gateway.upstream.httpx_backend import BlockedAddressError, CheckedNetworkBackend
from gateway.upstream.resolver import Address, is_allowed_address
from tests.faults.upstream_server import FaultUpstream


class FixedResolver:
    """Resolves every name to the same addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.forgotten: list[tuple[str, int]] = []

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        return [(socket.AF_INET, (address, port)) for address in self.addresses]

    def forget(self, host: str, port: int) -> None:
        self.forgotten.append((host, port))


async def test_a_name_that_leads_only_to_blocked_addresses_is_refused() -> None:
    backend = CheckedNetworkBackend(FixedResolver("169.254.169.254", "0.0.0.0"), is_allowed_address)
    with pytest.raises(BlockedAddressError, match=r"metadata\.example resolves only to blocked addresses"):
        await backend.connect_tcp("metadata.example", 80, 5.0)


async def test_a_literal_address_is_checked_too() -> None:
    backend = CheckedNetworkBackend(FixedResolver(), is_allowed_address)
    with pytest.raises(BlockedAddressError):
        await backend.connect_tcp("169.254.169.254", 80, 5.0)


async def test_blocked_addresses_are_skipped(up: FaultUpstream) -> None:
    backend = CheckedNetworkBackend(FixedResolver("169.254.169.254", "127.0.0.1"), is_allowed_address)
    stream = await backend.connect_tcp("api.example", up.port, 5.0)
    await stream.aclose()


async def test_a_name_without_a_working_address_is_looked_up_again_next_time() -> None:
    resolver, port = FixedResolver("127.0.0.1"), free_port()
    with pytest.raises(httpcore.ConnectError):
        await CheckedNetworkBackend(resolver, is_allowed_address).connect_tcp("api.example", port, 5.0)
    assert resolver.forgotten == [("api.example", port)]
