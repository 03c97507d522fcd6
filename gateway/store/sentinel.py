"""redis-py client for Redis Sentinel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.config.redis_address import RedisAddress
from gateway.store.client_options import TIMEOUT_S, client_options, credentials_provider

if TYPE_CHECKING:
    from redis.asyncio.sentinel import Sentinel


def open_sentinel(address: RedisAddress, timeout_s: float = TIMEOUT_S) -> Sentinel:
    """Return a client for the Sentinels of an address.

    The user and password in the address are those of the master. Sentinels have a separate password or none.
    """
    from redis.asyncio.sentinel import Sentinel

    options = {name: value for name, value in client_options(address).items() if name != "credential_provider"}
    options |= {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    options |= {"ssl": True, "ssl_ca_certs": address.ca} if address.tls else {}
    if address.sentinel_secret is not None:
        options["credential_provider"] = credentials_provider(address.sentinel_credentials)
    client: Sentinel = Sentinel(list(address.nodes), sentinel_kwargs=options)  # type: ignore[no-untyped-call]
    return client
