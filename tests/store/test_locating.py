"""The order in which a process asks cluster nodes or Sentinels for the address of a server."""

from __future__ import annotations

import asyncio

import pytest

from gateway.config.redis_address import RedisAddress
from gateway.store import topology
from gateway.store.topology import Topology

NODES = (("a", 1), ("b", 1), ("c", 1), ("d", 1))


class Nodes(Topology):
    """Nodes of which some answer, some refuse, and the others are silent."""

    def __init__(self) -> None:
        super().__init__(RedisAddress(kind="cluster", nodes=NODES), "caller")
        self.asked: list[str] = []
        self.answering: set[str] = set()
        self.refusing: set[str] = set()

    async def _owner_by_cluster_node(self, node: tuple[str, int]) -> tuple[str, int]:
        self.asked.append(node[0])
        if node[0] in self.refusing:
            raise ConnectionError("refused")
        if node[0] not in self.answering:
            await asyncio.Event().wait()
        return "owner", 7


@pytest.fixture(autouse=True)
def _no_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "NODE_TIMEOUT_S", 600.0)


async def test_after_an_attempt_that_is_cancelled_the_next_one_starts_with_another_node() -> None:
    nodes = Nodes()
    nodes.answering = {"d"}
    for name in "abc":
        attempt = asyncio.create_task(nodes.locate())
        await asyncio.sleep(0)
        attempt.cancel()
        await asyncio.gather(attempt, return_exceptions=True)
        assert nodes.asked[-1] == name
    assert (await nodes.locate()).port == 7
    assert nodes.asked == ["a", "b", "c", "d"]
    await nodes.locate()
    assert nodes.asked[4:] == ["d"]


async def test_after_an_attempt_that_fails_the_next_one_starts_with_another_node() -> None:
    nodes = Nodes()
    nodes.refusing = {"a", "b", "c", "d"}
    for _ in range(4):
        with pytest.raises(ConnectionError, match="refused"):
            await nodes.locate()
    assert [sorted(nodes.asked[at : at + 4]) for at in (0, 4, 8, 12)] == [["a", "b", "c", "d"]] * 4
    assert nodes.asked[::4] == ["a", "b", "c", "d"]
