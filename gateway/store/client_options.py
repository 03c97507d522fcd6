"""Connection options of the redis-py clients: timeouts, protocol version, no retries, credentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.config.redis_address import RedisAddress

if TYPE_CHECKING:
    from redis.credentials import CredentialProvider

TIMEOUT_S = 1.0
"""Timeout for connecting and for each reply.

This timeout may be long: of all model calls, only those that store or continue a response wait this long for these clients.
Lookups of cached answers have a shorter timeout.
"""


def credentials_provider(credentials: Callable[[], tuple[str, str]]) -> CredentialProvider:
    """Return a provider that reads user and password again for each connection."""
    from redis.credentials import CredentialProvider

    class Credentials(CredentialProvider):
        def get_credentials(self) -> tuple[str] | tuple[str, str]:
            user, password = credentials()
            return (user, password) if user else (password,)

        async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
            return self.get_credentials()

    return Credentials()


def client_options(address: RedisAddress) -> dict[str, Any]:
    """Return the keyword arguments of a redis-py connection to this address."""
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = {
        "protocol": 2,  # Redis before 6.0 supports only version 2 and lacks HELLO
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.password or address.secret is not None:
        options["credential_provider"] = credentials_provider(address.credentials)
    return options
