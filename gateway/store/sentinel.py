"""Sentinel client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.config.redis_address import RedisAddress
from gateway.store.client_options import TIMEOUT_S, client_options, credentials_provider

if TYPE_CHECKING:
    from redis.asyncio.sentinel import Sentinel


def open_sentinel(address: RedisAddress, timeout_s: float = TIMEOUT_S) -> Sentinel:
    """The Sentinels of an address. The login is the master's alone, they have a password of their own or none."""
    from redis.asyncio.sentinel import Sentinel

    own = {name: value for name, value in client_options(address).items() if name != "credential_provider"}
    own |= {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    own |= {"ssl": True, "ssl_ca_certs": address.ca} if address.tls else {}
    if address.sentinel_secret is not None:
        own["credential_provider"] = credentials_provider(address.sentinel_credentials)
    found: Sentinel = Sentinel(list(address.nodes), sentinel_kwargs=own)  # type: ignore[no-untyped-call]
    return found
