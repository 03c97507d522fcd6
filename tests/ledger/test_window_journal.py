"""If Redis is emptied while no gateway runs, the next gateway restores the usage of limits from the journal of a killed one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import httpx

from gateway.ledger.records import read_journal
from gateway.store.limit_usage import usage_at
from gateway.store.window_usage import window_limit
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import eventually, live
from tests.ledger.conftest import ENVIRON, TOKEN, call, yaml
from tests.support.redis import RedisServer
from tests.support.redis_topologies import run_command

HASH = "sha256:" + hashlib.sha256(TOKEN.encode()).hexdigest()


async def test_a_gateway_restores_the_windows_of_a_killed_one(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer, tmp_path: Path
) -> None:
    killed, next_folder = tmp_path / "killed", tmp_path / "next"
    rest = f"""
store: redis://127.0.0.1:{own_redis.port}
store_deadline: 10s
keys:
  app: {{ hash: "{HASH}", limits: {{ requests: 5/day }} }}
"""

    def journaled() -> int:
        files = list(killed.glob("*.journal"))
        return sum(sum(read_journal(file.read_bytes()).windows.values()) for file in files)

    async with live(yaml(up, killed, rest), environ=ENVIRON) as gateway:
        for _ in range(3):
            assert (await call(client, gateway)).status_code == 200
        await eventually(lambda: journaled() == 3)
        next_folder.mkdir()
        for file in killed.iterdir():
            shutil.copy(file, next_folder)  # as the process would leave it if it were killed now
    await run_command(own_redis.address, "FLUSHALL")
    async with live(yaml(up, next_folder, rest), environ=ENVIRON) as gateway:
        codes = [(await call(client, gateway)).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        limit = window_limit("lockgate:{caller}:key:app:requests:day")
        assert limit is not None
        assert [usage.used for usage in await usage_at(own_redis.address, [limit])] == [5]
