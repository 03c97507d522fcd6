"""Sentinel client."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.config.redis_address import RedisAddress

if TYPE_CHECKING:
    from redis.asyncio.sentinel import Sentinel
    from redis.credentials import CredentialProvider


PATIENCE = 1.0
"""Seconds to connect, and for an answer: nobody's call waits for it."""


def sentinels(address: RedisAddress, patience: float = PATIENCE) -> Sentinel:
    """The Sentinels of an address. The login is the master's alone, they have a password of their own or none."""
    from redis.asyncio.sentinel import Sentinel

    own = {name: value for name, value in _options(address).items() if name != "credential_provider"}
    own |= {"socket_timeout": patience, "socket_connect_timeout": patience}
    own |= {"ssl": True, "ssl_ca_certs": address.ca} if address.tls else {}
    if address.sentinel_secret is not None:
        own["credential_provider"] = _login(address.sentinel_credentials)
    found: Sentinel = Sentinel(list(address.nodes), sentinel_kwargs=own)  # type: ignore[no-untyped-call]
    return found


def _login(credentials: Callable[[], tuple[str, str]]) -> CredentialProvider:
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


def _options(address: RedisAddress) -> dict[str, Any]:
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    options: dict[str, Any] = {
        "protocol": 2,  # a Redis before 6.0 knows no other, and no HELLO
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.password or address.secret is not None:
        options["credential_provider"] = _login(address.credentials)
    return options
