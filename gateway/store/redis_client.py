"""redis-py's clients for what is no decision of a call: keys made at run time, and what Sentinels say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.config.redis_address import RedisAddress
from gateway.store.client_options import client_options
from gateway.store.topology import Topology

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.connection import Connection






def open_client(address: RedisAddress, tag: str) -> Redis:
    """A client for keys with this hash tag. It retries nothing, asks for the password at each connection, and in a topology where to go."""
    from redis.asyncio import ConnectionPool, Redis, UnixDomainSocketConnection

    options: dict[str, Any] = {"db": address.database, **client_options(address)}
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
