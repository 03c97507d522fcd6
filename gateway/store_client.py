"""redis-py's clients for what is no decision of a call: keys made at run time, and what Sentinels say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.config_types import Config
from gateway.limits.address import RedisAddress, read_address

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster
    from redis.asyncio.sentinel import Sentinel

    Client = Redis | RedisCluster

PATIENCE = 1.0
"""Seconds to connect, and for an answer: nobody's call waits for it."""


def store_address(config: Config) -> RedisAddress:
    """Where the configuration's Redis is; ValueError when its parts do not fit together."""
    return read_address(config.store, next(iter(config.store_password), None), config.store_ca)


def open_client(address: RedisAddress) -> Client:
    """A client of any topology. It retries nothing, and asks for the password at each connection."""
    from redis.asyncio.cluster import ClusterNode, RedisCluster

    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.nodes]
        return RedisCluster(startup_nodes=nodes, **_options(address))  # type: ignore[abstract, unused-ignore]
    if address.kind == "sentinel":
        found: Redis = sentinels(address).master_for(address.service)
        return found
    return open_one(address)


def open_one(address: RedisAddress) -> Redis:
    """A client of one server."""
    from redis.asyncio import Redis

    where: dict[str, Any] = {"unix_socket_path": address.path} if address.path else {"host": address.host, "port": address.port}
    return Redis(**where, db=address.database, **_options(address))


def sentinels(address: RedisAddress, patience: float = PATIENCE) -> Sentinel:
    """The Sentinels of an address. The login is the master's alone."""
    from redis.asyncio.sentinel import Sentinel

    options = _options(address)
    own = {name: value for name, value in options.items() if name != "credential_provider"}
    own |= {"socket_timeout": patience, "socket_connect_timeout": patience}
    found: Sentinel = Sentinel(list(address.nodes), sentinel_kwargs=own, db=address.database, **options)  # type: ignore[no-untyped-call]
    return found


def _options(address: RedisAddress) -> dict[str, Any]:
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.credentials import CredentialProvider

    class Credentials(CredentialProvider):
        """User and password as they are now."""

        def get_credentials(self) -> tuple[str] | tuple[str, str]:
            user, password = address.credentials()
            return (user, password) if user else (password,)

        async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
            return self.get_credentials()

    options: dict[str, Any] = {
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "retry": Retry(NoBackoff(), 1 if address.kind == "cluster" else 0),
    }
    if address.password or address.secret is not None:
        options["credential_provider"] = Credentials()
    if address.tls:
        options |= {"ssl": True, "ssl_ca_certs": address.ca}
    return options
