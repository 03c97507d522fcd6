"""Reads the usage of limits from Redis, over the connections of a limiter or over a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.config.redis_address import RedisAddress
from gateway.store.errors import StoreUnavailableError
from gateway.store.limit import NO_SLOT, Limit, LimitUsage
from gateway.store.members import RunScript
from gateway.store.redis_client import open_client
from gateway.store.script_args import BUDGET_SLOTS, batches, known_spend, members_key, reserved_key
from gateway.store.settled_spend import SettledSpend
from gateway.store.usage_script import READ_USAGE

_Ask = Callable[[list[str], list[Any]], Awaitable[Sequence[int]]]


async def usage_over(run: RunScript, limits: Sequence[Limit], spent: SettledSpend) -> list[LimitUsage]:
    """Return the usage of limits, read over the connections of a limiter. Raise StoreUnavailableError if the store fails."""

    async def ask(keys: list[str], arguments: list[Any]) -> Sequence[int]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        run(READ_USAGE, keys, arguments, lambda reply: None if future.done() else future.set_result(reply))
        reply = await future
        if isinstance(reply, Exception):
            raise StoreUnavailableError(str(reply))
        counts: Sequence[int] = reply
        return counts

    return await _read(limits, spent, ask)


async def usage_at(address: RedisAddress, limits: Sequence[Limit]) -> list[LimitUsage]:
    """Return the usage of limits, read over a new connection. Raise StoreUnavailableError if the store fails."""
    from redis.exceptions import RedisError

    async def ask(keys: list[str], arguments: list[Any]) -> Sequence[int]:
        client = open_client(address, keys[0].partition("{")[2].partition("}")[0])
        try:
            counts: Sequence[int] = await client.eval(READ_USAGE, len(keys), *keys, *arguments)
        except (RedisError, OSError) as error:
            raise StoreUnavailableError(str(error)) from None
        finally:
            await client.aclose()
        return counts

    return await _read(limits, SettledSpend(), ask)


async def _read(limits: Sequence[Limit], spent: SettledSpend, ask: _Ask) -> list[LimitUsage]:
    """Ask for the limits of each side in batches, and return their usage in the given order."""
    usages: dict[str, LimitUsage] = {}
    for side in dict.fromkeys(limit.side for limit in limits):
        for batch in batches([limit for limit in limits if limit.side == side]):
            reply = await ask(*_usage_args(batch, spent))
            usages |= {usage.limit.key: usage for usage in _read_reply(batch, reply)}
    return [usages[limit.key] for limit in limits]


def _usage_args(limits: Sequence[Limit], spent: SettledSpend) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of READ_USAGE for limits of one side."""
    keys = [members_key(limits[0].side)]
    arguments: list[Any] = [spent.incarnation]
    for limit in limits:
        keys.append(limit.key)
        if limit.kind == "spend":
            keys.append(reserved_key(limit.key))
            arguments += (limit.slot, BUDGET_SLOTS, *known_spend(limit, spent))
        else:
            arguments += (limit.slot, limit.slots)
    return keys, arguments


def _read_reply(limits: Sequence[Limit], reply: Sequence[int]) -> list[LimitUsage]:
    """Return the usage that a reply of READ_USAGE describes."""
    now, usages = reply[0], []
    for index, limit in enumerate(limits):
        used, reserved, slot = reply[3 * index + 1 : 3 * index + 4]
        used += max(0, reserved)
        reset = limit.reset_s(slot, now) if slot != NO_SLOT and used else 0.0
        usages.append(LimitUsage(limit, used, reserved if reserved >= 0 else None, reset))
    return usages
