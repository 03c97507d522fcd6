"""Connection options shared by the redis-py clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.config.redis_address import RedisAddress

if TYPE_CHECKING:
    from redis.credentials import CredentialProvider


TIMEOUT_S = 1.0
"""Seconds to connect, and for an answer: nobody's call waits for it."""


def credentials_provider(credentials: Callable[[], tuple[str, str]]) -> CredentialProvider:
    """User and password as they are at each connection."""
    from redis.credentials import CredentialProvider

    class Credentials(CredentialProvider):
        """As they are now."""

        def get_credentials(self) -> tuple[str] | tuple[str, str]:
            user, password = credentials()
            return (user, password) if user else (password,)

        async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
            return self.get_credentials()

    return Credentials()


def client_options(address: RedisAddress) -> dict[str, Any]:
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = {
        "protocol": 2,  # a Redis before 6.0 knows no other, and no HELLO
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.password or address.secret is not None:
        options["credential_provider"] = credentials_provider(address.credentials)
    return options
