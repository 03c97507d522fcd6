"""redis-py clients for work outside the call path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from gateway.config.redis_address import read_address
from gateway.store.redis_client import open_client
from tests.support.redis import RedisServer


async def test_redis_py_clients_work_without_the_hello_command(tmp_path: Path) -> None:
    """Redis 5.0 does not have this command."""
    server = RedisServer(tmp_path, "--rename-command", "HELLO", "")
    try:
        client: Any = open_client(read_address(server.url), "ledger")
        await client.hset("lockgate:{ledger}:h", mapping={"a": "1"})
        assert await client.hgetall("lockgate:{ledger}:h") == {b"a": b"1"}
        await client.aclose()
    finally:
        server.kill()


def test_library_is_imported_without_metrics_of_opentelemetry_which_can_be_imported_later() -> None:
    script = (
        "import sys; from gateway.store.redis_client import import_library; import_library(); import_library()\n"
        "assert 'redis.asyncio' in sys.modules\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "import opentelemetry.sdk.metrics as metrics; assert metrics.MeterProvider; import_library()\n"
        "assert sys.modules['opentelemetry.sdk.metrics'] is metrics\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
