"""redis-py clients for everything except decisions on limits: run-time keys, cooldowns, the ledger, stored responses and more."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from gateway.config.redis_address import RedisAddress
from gateway.store.client_options import client_options
from gateway.store.topology import Topology

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.connection import Connection


_UNUSED = ("opentelemetry.metrics", "opentelemetry.sdk.metrics")


def import_library() -> None:
    """Import redis-py, which takes 6 MB, so that the processes that are forked from now on share its memory.

    redis-py also imports the metrics of OpenTelemetry if they are installed. The gateway does not use them, and they take 2 MB.
    """
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    hidden = [name for name in _UNUSED if name not in modules]
    modules.update(dict.fromkeys(hidden))  # the import of a module that is None fails, and redis-py goes on without it
    try:
        import redis.asyncio  # noqa: F401
    finally:
        for name in hidden:
            del modules[name]


def open_client(address: RedisAddress, tag: str) -> Redis:
    """Return a client for keys with this hash tag.

    The client does not retry. For each new connection, it reads the password again and locates the server of the tag.
    """
    from redis.asyncio import ConnectionPool, Redis, UnixDomainSocketConnection

    options: dict[str, Any] = {"db": address.database, **client_options(address)}
    if address.path:
        options |= {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        options |= {"connection_class": _connection(Topology(address, tag), tls=address.tls)}
        options |= {"ssl_ca_certs": address.ca} if address.tls else {}
    return Redis.from_pool(ConnectionPool(**options))


def _connection(topology: Topology, *, tls: bool) -> type[Connection]:
    """Return a connection class that locates its server on connect, and disconnects if that server is the wrong one."""
    from redis.asyncio import connection
    from redis.exceptions import AskError, ClusterDownError, ReadOnlyError, TryAgainError
    from redis.exceptions import ConnectionError as RedisConnectionError

    kind: type[Connection] = connection.SSLConnection if tls else connection.Connection

    class LocatedConnection(kind):  # type: ignore[misc, valid-type]
        async def _connect(self) -> None:
            try:
                server = await topology.locate()
            except (OSError, ValueError) as error:
                raise RedisConnectionError(str(error)) from None
            self.host, self.port = server.host, server.port
            await super()._connect()

        async def read_response(self, *arguments: Any, **named: Any) -> Any:
            try:
                return await super().read_response(*arguments, **named)
            except (AskError, ClusterDownError, ReadOnlyError, TryAgainError) as error:
                await self.disconnect()
                raise RedisConnectionError(str(error)) from None

    return LocatedConnection
