"""Which server has what: the one of a URL, the master that Sentinels name, or the node of a cluster that has a tag's slot."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis

from gateway.config.redis_address import RedisAddress
from gateway.store.resp import connect

HASH_TAGS = ("caller", "target", "ledger")
"""The hash tags of our keys: all keys of a tag are in one slot, so that one script may touch them."""
NODE_TIMEOUT_S = 0.4
"""Seconds for one Sentinel or one node to answer, so that a dead one leaves time for the next."""
_HASH_SLOTS = 16384


class Topology:
    """Finds the server for a tag. Whom it asks first changes with each attempt in vain."""

    def __init__(self, address: RedisAddress, tag: str) -> None:
        self._address = address
        self._slot = hash_slot(tag)
        self._nodes = list(address.nodes)

    async def locate(self) -> RedisAddress:
        """Where to connect to now; ConnectionError when nobody knows."""
        if self._address.kind == "one":
            return self._address
        problem: Exception | None = None
        for node in self._nodes:
            try:
                async with asyncio.timeout(NODE_TIMEOUT_S):
                    host, port = await (self._master_by_sentinel(node) if self._address.kind == "sentinel" else self._owner_by_cluster_node(node))
            except (OSError, TimeoutError, hiredis.HiredisError, ValueError) as error:
                problem = error
                continue
            self._nodes.remove(node)
            self._nodes.insert(0, node)
            return self._address.for_server(host, port)
        self._nodes.append(self._nodes.pop(0))
        raise ConnectionError(f"no node tells where to go: {problem or type(problem).__name__}")

    async def _master_by_sentinel(self, node: tuple[str, int]) -> tuple[str, int]:
        """What one Sentinel says. The login is the master's; Sentinels are asked with a password of their own, or none."""
        from redis.exceptions import RedisError

        from gateway.store.sentinel import open_sentinel

        found = open_sentinel(self._address.for_sentinel(node), NODE_TIMEOUT_S)
        try:
            host, port = await found.discover_master(self._address.service)
        except RedisError as error:
            raise ConnectionError(str(error)) from None
        finally:
            for one in found.sentinels:
                await one.aclose()
        return str(host), int(port)

    async def _owner_by_cluster_node(self, node: tuple[str, int]) -> tuple[str, int]:
        """Which node has the slot, as one of them knows; other nodes learnt here are asked when those of the URL are gone."""
        connection = await connect(self._address.for_server(*node), lambda: None)
        try:
            ranges = await connection.execute("CLUSTER", "SLOTS")
        finally:
            connection.abort()
        found: tuple[str, int] | None = None
        for first, last, *nodes in ranges:
            master = _endpoint(nodes[0], node[0])
            if first <= self._slot <= last:
                found = master
            if master not in self._nodes:
                self._nodes.append(master)
        if found is None:
            raise ConnectionError(f"no node of the cluster has slot {self._slot}")
        return found


def _endpoint(node: list[Any], asked: str) -> tuple[str, int]:
    """A node's address; it leaves its own out when it does not know it."""
    host = node[0].decode() if node[0] else asked
    return (asked if host == "?" else host), int(node[1])


def hash_slot(tag: str) -> int:
    """The hash slot of every key with this tag: CRC16 (XMODEM), as the cluster's specification has it."""
    crc = 0
    for byte in tag.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc % _HASH_SLOTS
