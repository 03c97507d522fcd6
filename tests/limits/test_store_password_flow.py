"""The password of a store whose URL is in a file is rotated without a restart."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from gateway.config.redis_address import RedisAddress
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import one_model
from tests.flows.live import eventually, live
from tests.flows.operator import FIRST, KEYED, REST, Operator
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.redis import RedisServer
from tests.support.redis_topologies import run_command


async def test_a_store_url_in_a_file_is_read_again_after_a_password_rotation(own_redis: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "store"

    def write(password: str, database: int = 0) -> None:
        file.write_text(f"redis://:{password}@127.0.0.1:{own_redis.port}/{database}\n")
        file.chmod(0o600)

    write("first-password")
    await run_command(own_redis.address, "CONFIG", "SET", "requirepass", "first-password")
    yaml = REST + KEYED + f"store: file:{file}\nstore_deadline: 10s\n"
    async with (
        FaultUpstream() as up,
        httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=30) as client,
        live(one_model(up, yaml), environ={"UP_KEY": "sk-upstream-credential"}) as gateway,
    ):
        operator = Operator(client, gateway)
        token = await operator.make("new", limits={"requests": "100/h"})
        assert "x-gateway-limits" not in (await operator.call(token)).headers
        admin = RedisAddress(path=str(own_redis.socket), password="first-password")
        await run_command(admin, "CONFIG", "SET", "requirepass", "second-password")
        await run_command(RedisAddress(path=str(own_redis.socket), password="second-password"), "CLIENT", "KILL", "TYPE", "normal")
        await eventually(lambda: any("password" in line.lower() or "auth" in line.lower() for line in gateway.reports), 20)
        write("second-password")
        assert await gateway.reloader.reload() == "applied"
        until = time.monotonic() + 20
        while "x-gateway-limits" in (answer := await operator.call(token)).headers:
            assert time.monotonic() < until, gateway.reports
        assert answer.headers["x-ratelimit-limit-requests"] == "100"
        await eventually(lambda: any("is available again" in line for line in gateway.reports), 20)
        assert "new" in (await operator.ask("GET")).text
        assert (await operator.ask("DELETE", "/new")).status_code == 200
        assert (await operator.call(FIRST)).status_code == 200
        assert gateway.reloader.needs_restart == []
        write("second-password", database=1)  # another database requires a restart
        assert await gateway.reloader.reload() == "applied"
        assert [change.name for change in gateway.reloader.needs_restart] == ["store"]
        for line in gateway.reports:
            assert "first-password" not in line
            assert "second-password" not in line
