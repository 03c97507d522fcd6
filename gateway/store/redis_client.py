"""redis-py's clients for what is no decision of a call: keys made at run time, and what Sentinels say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import structs

from gateway.config.redis_address import RedisAddress, read_address
from gateway.config.secret import Secret, read_secret
from gateway.config.types import Config
from gateway.store.topology import Topology

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.connection import Connection
    from redis.asyncio.sentinel import Sentinel
    from redis.credentials import CredentialProvider

PATIENCE = 1.0
"""Seconds to connect, and for an answer: nobody's call waits for it."""


class _OfUrl(Secret):
    """The password in a URL that a file has, as the file has it now."""

    def refresh(self) -> Secret:
        """ValueError when the file cannot be used."""
        assert self.path is not None
        return Secret(read_address(read_secret(self.path).reveal()).password)


def store_address(config: Config) -> RedisAddress:
    """Where the configuration's Redis is; ValueError when its parts do not fit together."""
    found = read_address(config.store, next(iter(config.store_password), None), config.store_ca)
    found = structs.replace(found, sentinel_secret=next(iter(config.store_sentinel_password), None))
    path = config.store.path
    return structs.replace(found, password="", secret=_OfUrl(found.password, path)) if path is not None and found.password else found


def open_client(address: RedisAddress, tag: str) -> Redis:
    """A client for keys with this hash tag. It retries nothing, asks for the password at each connection, and in a topology where to go."""
    from redis.asyncio import ConnectionPool, Redis, UnixDomainSocketConnection

    options: dict[str, Any] = {"db": address.database, **_options(address)}
    if address.path:
        options |= {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        options |= {"connection_class": _connection(Topology(address, tag), tls=address.tls)}
        options |= {"ssl_ca_certs": address.ca} if address.tls else {}
    return Redis.from_pool(ConnectionPool(**options))


def _connection(topology: Topology, *, tls: bool) -> type[Connection]:
    """Connections that go where the topology says now, and end when the server says that it is the wrong one."""
    from redis.asyncio import connection
    from redis.exceptions import AskError, ClusterDownError, ReadOnlyError, TryAgainError
    from redis.exceptions import ConnectionError as Lost

    kind: type[Connection] = connection.SSLConnection if tls else connection.Connection

    class Located(kind):  # type: ignore[misc, valid-type]
        """One of them."""

        async def _connect(self) -> None:
            try:
                found = await topology.locate()
            except (OSError, ValueError) as error:
                raise Lost(str(error)) from None
            self.host, self.port = found.host, found.port
            await super()._connect()

        async def read_response(self, *arguments: Any, **named: Any) -> Any:
            try:
                return await super().read_response(*arguments, **named)
            except (AskError, ClusterDownError, ReadOnlyError, TryAgainError) as error:
                await self.disconnect()
                raise Lost(str(error)) from None

    return Located


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
