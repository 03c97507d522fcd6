"""Real Redis topologies on loopback: a cluster of three nodes, and a master with a replica and a Sentinel."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.ports import free_port
from gateway.config.redis_address import RedisAddress
from gateway.store.resp import RespConnection, connect
from gateway.store.topology import hash_slot
from tests.support.redis import RedisServer, redis_server_program

SLOTS = 16384
READY_TIMEOUT_S = 60.0


async def run_command(address: RedisAddress, *command: Any) -> Any:
    """Run one command on a new connection."""
    connection: RespConnection = await connect(address, lambda: None)
    try:
        return await connection.execute(*command)
    finally:
        connection.abort()


async def wait_until(condition: Any) -> None:
    """Wait until an async condition holds."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError):
            if await condition():
                return
        assert time.monotonic() < deadline, "the servers did not reach the expected state"
        await asyncio.sleep(0.02)


class ClusterServers:
    """Three masters, each with a third of the hash slots, and optionally a replica of each."""

    def __init__(self, folder: Path, *, with_replicas: bool = False, node_timeout_s: float = 15.0) -> None:
        """`node_timeout_s` is the time without a reply after which a node counts as failed."""
        self._buses = [free_port() for _ in range(6 if with_replicas else 3)]
        servers: list[RedisServer] = []
        for index, bus in enumerate(self._buses):
            node_folder = folder / f"node-{index}"
            node_folder.mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--loglevel", "warning")
            servers.append(RedisServer(node_folder, *options, "--cluster-node-timeout", f"{node_timeout_s * 1000:.0f}"))
        self.nodes, self.replicas = servers[:3], servers[3:]

    @property
    def address(self) -> RedisAddress:
        """Return an address with all three nodes."""
        return RedisAddress(kind="cluster", nodes=tuple(("127.0.0.1", node.port) for node in self.nodes))

    @property
    def url(self) -> str:
        """Return the URL for the configuration."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    async def form(self) -> None:
        """Assign the hash slots and connect the nodes."""
        for index, node in enumerate(self.nodes):
            first, last = SLOTS * index // 3, SLOTS * (index + 1) // 3 - 1
            await run_command(node.address, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            await run_command(node.address, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for node, bus in zip(self.servers[1:], self._buses[1:], strict=True):
            await run_command(self.nodes[0].address, "CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        await wait_until(self._formed)
        for master, replica in zip(self.nodes, self.replicas, strict=bool(self.replicas)):
            await run_command(replica.address, "CLUSTER", "REPLICATE", (await run_command(master.address, "CLUSTER", "MYID")).decode())
        await wait_until(self._replicated)

    @property
    def servers(self) -> list[RedisServer]:
        """Return all nodes, the replicas last."""
        return [*self.nodes, *self.replicas]

    async def _formed(self) -> bool:
        infos = [await run_command(node.address, "CLUSTER", "INFO") for node in self.servers]
        known = b"cluster_known_nodes:%d\r" % len(self.servers)
        return all(b"cluster_state:ok" in info and known in info for info in infos)

    async def _replicated(self) -> bool:
        infos = [await run_command(replica.address, "INFO", "replication") for replica in self.replicas]
        return all(b"master_link_status:up" in info for info in infos)

    async def owner(self, tag: str) -> RedisServer:
        """Return the node that has the hash slot of a tag."""
        alive = next(node for node in self.servers if node.process.poll() is None)
        for first, last, node, *_ in await run_command(alive.address, "CLUSTER", "SLOTS"):
            if first <= hash_slot(tag) <= last:
                return next(server for server in self.servers if server.port == node[1])
        raise AssertionError("no node has the hash slot")

    async def move(self, tag: str) -> None:
        """Migrate the hash slot of a tag to another node, key by key, as redis-cli does."""
        slot, old = hash_slot(tag), await self.owner(tag)
        new = next(node for node in self.nodes if node is not old)
        names = {node.port: (await run_command(node.address, "CLUSTER", "MYID")).decode() for node in self.nodes}
        await run_command(new.address, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[old.port])
        await run_command(old.address, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[new.port])
        while keys := await run_command(old.address, "CLUSTER", "GETKEYSINSLOT", slot, 1):
            await run_command(old.address, "MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "KEYS", *keys)
            await asyncio.sleep(0.005)
        for node in (new, old, *self.nodes):
            await run_command(node.address, "CLUSTER", "SETSLOT", slot, "NODE", names[new.port])
        await wait_until(lambda: self._agreed(tag, new))

    async def _agreed(self, tag: str, new: RedisServer) -> bool:
        return await self.owner(tag) is new

    async def empty(self) -> None:
        """Delete all keys."""
        for node in self.nodes:
            await run_command(node.address, "FLUSHALL")

    def kill(self) -> None:
        """Send SIGKILL to all servers."""
        for node in self.servers:
            node.thaw()
            node.kill()


class SentinelServers:
    """A master, its replica, and a Sentinel that promotes the replica if the master fails."""

    NAME = "main"

    def __init__(self, folder: Path, password: str = "", gone_after: float = 60.0) -> None:
        """Start the servers."""
        self.servers: list[RedisServer] = []
        self._password = password
        for name in ("a", "b"):
            (folder / name).mkdir()
            self.servers.append(RedisServer(folder / name, "--repl-diskless-sync-delay", "0"))
        self.port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {self.NAME} 127.0.0.1 {self.servers[0].port} 1\n"
            f"sentinel down-after-milliseconds {self.NAME} {gone_after * 1000:.0f}\nsentinel failover-timeout {self.NAME} 3000\n"
            + (f"requirepass {password}\n" if password else "")
        )
        program = redis_server_program()
        assert program is not None
        with (folder / "sentinel.log").open("ab") as log:
            self._sentinel = subprocess.Popen([program, str(config), "--sentinel"], stdout=log, stderr=log)

    @property
    def address(self) -> RedisAddress:
        """Return an address with two Sentinels, of which the first does not exist."""
        return RedisAddress(kind="sentinel", nodes=(("127.0.0.1", free_port()), ("127.0.0.1", self.port)), service=self.NAME)

    @property
    def url(self) -> str:
        """Return the URL for the configuration."""
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.NAME}/0"

    async def form(self) -> None:
        """Connect the replica and wait until the Sentinel has found it."""
        await run_command(self.servers[1].address, "REPLICAOF", "127.0.0.1", self.servers[0].port)
        await wait_until(self._formed)

    async def _formed(self) -> bool:
        replicas = await run_command(RedisAddress(port=self.port, password=self._password), "SENTINEL", "REPLICAS", self.NAME)
        return len(replicas) == 1 and b"slave" in replicas[0] and (await run_command(self.servers[1].address, "ROLE"))[3] == b"connected"

    async def copied(self) -> None:
        """Wait until the replica has received everything that the master has written."""
        offset = (await run_command(self.servers[0].address, "ROLE"))[1]
        await wait_until(lambda: self._has(offset))

    async def _has(self, offset: int) -> bool:
        return bool((await run_command(self.servers[1].address, "ROLE"))[4] >= offset)

    async def master(self) -> RedisServer:
        """Return the server that the Sentinel names as master."""
        _, port = await run_command(RedisAddress(port=self.port), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)
        return next(server for server in self.servers if server.port == int(port))

    async def empty(self) -> None:
        """Delete all keys."""
        await run_command((await self.master()).address, "FLUSHALL")

    def kill(self) -> None:
        """Send SIGKILL to all servers."""
        self._sentinel.kill()
        self._sentinel.wait()
        for server in self.servers:
            server.thaw()
            server.kill()


Servers = TypeVar("Servers", ClusterServers, SentinelServers)


def serve_until_done(servers: Servers) -> Iterator[Servers]:
    """Yield servers once they are ready. Kill them afterwards."""
    try:
        asyncio.run(servers.form())
        yield servers
    finally:
        servers.kill()
