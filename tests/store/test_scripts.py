"""The Lua scripts as Redis runs them."""

from __future__ import annotations

import random

from gateway.config.redis_address import RedisAddress
from gateway.store.periods import PERIOD_WIDTHS, US_PER_S, PeriodClock, month_number
from gateway.store.script_functions import SHARED
from gateway.store.scripts import SCRIPTS, digest
from tests.store.test_periods import ZONES
from tests.support.redis_topologies import run_command


async def test_digests_are_those_of_redis(redis: RedisAddress) -> None:
    assert [(await run_command(redis, "SCRIPT", "LOAD", script)).decode() for script in SCRIPTS] == [digest(script) for script in SCRIPTS]


async def test_months_are_numbered_as_in_python(redis: RedisAddress) -> None:
    program = SHARED + "local months = {} for i = 1, #ARGV do months[i] = month(tonumber(ARGV[i])) end return months"
    day = 86_400_000_000
    moments = [moment for start in range(0, 40_000, 7) for moment in (start * day, (start + 1) * day - 1)]
    for first in range(0, len(moments), 1000):
        some = moments[first : first + 1000]
        assert await run_command(redis, "EVAL", program, 0, *some) == [month_number(moment) for moment in some]


async def test_periods_are_numbered_as_in_python(redis: RedisAddress) -> None:
    program = SHARED + """
    local numbers = {}
    for i = 1, #ARGV, 5 do
      now = tonumber(ARGV[i])
      numbers[#numbers + 1] = period(tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]))
    end
    return numbers
    """
    draw = random.Random(5)
    arguments: list[int] = []
    expected: list[int] = []
    for _ in range(600):
        clock = PeriodClock(draw.choice(list(PERIOD_WIDTHS)), draw.choice(ZONES))
        now = draw.randrange(1_500_000_000, 2_200_000_000) * US_PER_S + draw.randrange(US_PER_S)
        seen_by_process = now + draw.randrange(-US_PER_S, US_PER_S)
        arguments += (now, clock.width, *clock.offsets(seen_by_process))
        expected.append(clock.number_at(now))
    assert await run_command(redis, "EVAL", program, 0, *arguments) == expected
