"""Locates the server of a hash tag: a single server, the master that Sentinel names, or the cluster node of the tag's hash slot."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis

from gateway.config.redis_address import RedisAddress
from gateway.store.resp import connect

HASH_TAGS = ("caller", "target", "ledger")
"""The hash tags of limits and of the ledger. All keys of a tag are in one hash slot, so that one script can access them."""
NODE_TIMEOUT_S = 0.4
"""Timeout of one Sentinel or cluster node, short enough to ask the next one before the connection attempt times out."""
_HASH_SLOTS = 16384


class Topology:
    """Locates the server of a hash tag. After an attempt that failed or was cancelled, the next one starts with another node."""

    def __init__(self, address: RedisAddress, tag: str) -> None:
        self._address = address
        self._slot = hash_slot(tag)
        self._nodes = list(address.nodes)
        if address.kind == "sentinel":
            # On a busy machine this import takes longer than NODE_TIMEOUT_S, so it must not run within that time.
            import redis.asyncio.sentinel  # noqa: F401

    async def locate(self) -> RedisAddress:
        """Return the address to connect to. Raise ConnectionError if no node returns an address."""
        if self._address.kind == "one":
            return self._address
        ask = self._master_by_sentinel if self._address.kind == "sentinel" else self._owner_by_cluster_node
        failure: Exception | None = None
        asked = set[tuple[str, int]]()
        while (node := next((each for each in self._nodes if each not in asked), None)) is not None:
            asked.add(node)
            # before the wait, because the attempt may time out during it
            self._nodes.remove(node)
            self._nodes.append(node)
            try:
                async with asyncio.timeout(NODE_TIMEOUT_S):
                    host, port = await ask(node)
            except (OSError, TimeoutError, hiredis.HiredisError, ValueError) as error:
                failure = error
                continue
            self._nodes.remove(node)
            self._nodes.insert(0, node)
            return self._address.for_server(host, port)
        self._nodes.append(self._nodes.pop(0))
        raise ConnectionError(f"no Sentinel or cluster node returned the address of the server: {str(failure) or type(failure).__name__}")

    async def _master_by_sentinel(self, node: tuple[str, int]) -> tuple[str, int]:
        """Ask one Sentinel for the address of the master."""
        from redis.exceptions import RedisError

        from gateway.store.sentinel import open_sentinel

        client = open_sentinel(self._address.for_sentinel(node), NODE_TIMEOUT_S)
        try:
            host, port = await client.discover_master(self._address.service)
        except RedisError as error:
            raise ConnectionError(str(error)) from None
        finally:
            for sentinel in client.sentinels:
                await sentinel.aclose()
        return str(host), int(port)

    async def _owner_by_cluster_node(self, node: tuple[str, int]) -> tuple[str, int]:
        """Ask one cluster node which node has the hash slot.

        Remember all masters in the reply, in case the nodes of the URL fail.
        """
        connection = await connect(self._address.for_server(*node), lambda: None)
        try:
            ranges = await connection.execute("CLUSTER", "SLOTS")
        finally:
            connection.abort()
        owner: tuple[str, int] | None = None
        for first, last, *nodes in ranges:
            master = _endpoint(nodes[0], node[0])
            if first <= self._slot <= last:
                owner = master
            if master not in self._nodes:
                self._nodes.append(master)
        if owner is None:
            raise ConnectionError(f"no node of the cluster has hash slot {self._slot}")
        return owner


def _endpoint(node: list[Any], asked_host: str) -> tuple[str, int]:
    """Return the address of a node. A node that does not know its own address leaves it out of the reply."""
    host = node[0].decode() if node[0] else asked_host
    return (asked_host if host == "?" else host), int(node[1])


def hash_slot(tag: str) -> int:
    """Return the hash slot of all keys with this tag: CRC16 (XMODEM) modulo 16384, as in the Redis Cluster specification."""
    crc = 0
    for byte in tag.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc % _HASH_SLOTS
