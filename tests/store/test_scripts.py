"""The Lua scripts as Redis runs them."""

from __future__ import annotations

from gateway.config.redis_address import RedisAddress
from gateway.store.limit import month_number
from gateway.store.script_functions import SHARED
from gateway.store.scripts import SCRIPTS, digest
from tests.support.redis_topologies import run_command


async def test_digests_are_those_of_redis(redis: RedisAddress) -> None:
    assert [(await run_command(redis, "SCRIPT", "LOAD", script)).decode() for script in SCRIPTS] == [digest(script) for script in SCRIPTS]


async def test_months_are_numbered_as_in_python(redis: RedisAddress) -> None:
    program = SHARED + "local months = {} for i = 1, #ARGV do now = tonumber(ARGV[i]) months[i] = month() end return months"
    day = 86_400_000_000
    moments = [moment for start in range(0, 40_000, 7) for moment in (start * day, (start + 1) * day - 1)]
    for first in range(0, len(moments), 1000):
        some = moments[first : first + 1000]
        assert await run_command(redis, "EVAL", program, 0, *some) == [month_number(moment) for moment in some]
