"""Run-time keys in Redis: all gateways and workers share them, and an outage changes none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.commands import cli as command
from gateway.config.key import KeyConfig
from gateway.keys.redis_store import RedisKeyStore
from gateway.keys.store import RuntimeKey
from gateway.keys.stored_key import KEYS
from gateway.store.resp import connect
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, one_model, serving
from tests.flows.live import Live, eventually, live
from tests.flows.operator import ADMIN, FIRST, KEYED, REST, Operator, bearer, digest
from tests.running import RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.redis import RedisServer
from tests.support.redis_topologies import run_command


@pytest.fixture(name="client")
async def caller() -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client."""
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=30) as one:
        yield one


async def several(stack: AsyncExitStack, up: FaultUpstream, redis: RedisServer, count: int, deadline: str = "10s") -> list[Live]:
    """Start gateways that share one store."""
    rest = REST + KEYED + f"store: {redis.url}\nstore_deadline: {deadline}\n"
    return [await stack.enter_async_context(serving(up, rest)) for _ in range(count)]


async def refused_within(calls: Callable[[], Any], status: int, seconds: float) -> None:
    """Wait until every response has the status. Fail after `seconds`."""
    began = time.monotonic()
    while True:
        answers = await calls()
        if all(answer.status_code == status for answer in answers):
            return
        assert time.monotonic() - began < seconds, [answer.status_code for answer in answers]
        await asyncio.sleep(0.05)


async def test_m6_a_key_revoked_on_one_gateway_is_refused_by_all_within_two_seconds(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        gateways = await several(stack, up, own_redis, 3)
        operators = [Operator(client, gateway) for gateway in gateways]
        token = await operators[0].make("new")

        async def calls() -> list[httpx.Response]:
            return await asyncio.gather(*(one.call(token) for one in operators))

        await refused_within(calls, 200, 30)
        assert (await operators[1].ask("DELETE", "/new")).status_code == 200
        assert (await operators[1].call(token)).status_code == 401
        await refused_within(calls, 401, 15)  # two seconds, plus the delay of a busy machine
        scrapes = [(await client.get(f"{one.admin_url}/metrics", headers=bearer(ADMIN))).text for one in gateways]
        assert [f"lockgate_keys_revoked_total {count}.0\n" in text for text in scrapes for count in (0, 1)] == [False, True] * 3


async def test_s9_the_store_has_hashes_only(up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        operator = Operator(client, (await several(stack, up, own_redis, 1))[0])
        token = await operator.make("new", limits={"requests": "10/min"})
        assert (await operator.call(token)).status_code == 200
        console = await connect(own_redis.address, lambda: None)
        dumps = [await console.execute("DUMP", key) for key in await console.execute("KEYS", "*")]
        kept = await console.execute("HGETALL", "lockgate:{keys}:made")
        console.abort()
    assert digest(token).encode() in b"".join(kept)
    for text in (*filter(None, dumps), *kept):  # a key may have expired since it was listed
        assert token.encode() not in text
        assert token[3:-4].encode() not in text


async def test_an_outage_keeps_the_keys_and_revoked_keys_stay_revoked(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        one, other = gateways = await several(stack, up, own_redis, 2)
        first, second = [Operator(client, gateway) for gateway in gateways]
        kept, revoked = await first.make("kept"), await first.make("revoked")
        await first.ask("DELETE", "/revoked")
        await eventually(lambda: set(other.gateway.runtime_keys.keys) == {"kept"})
        own_redis.kill()
        await eventually(lambda: any("Redis at" in line for line in one.reports))
        assert [(await operator.call(kept)).status_code for operator in (first, second)] == [200, 200]
        assert [(await operator.call(revoked)).status_code for operator in (first, second)] == [401, 401]
        away = await first.ask("POST", "", {"name": "later"})
        assert (away.status_code, away.json()["error"]["code"]) == (503, "store_unavailable")
        own_redis.start()  # empty
        await eventually(lambda: all("is available again" in gateway.reports[-1] for gateway in gateways))
        assert [(await operator.call(kept)).status_code for operator in (first, second)] == [200, 200]
        later = await first.make("later")  # stored after the lost keys were restored
        await eventually(lambda: set(other.gateway.runtime_keys.keys) == {"kept", "later"})
        assert [(await second.call(token)).status_code for token in (kept, revoked, later)] == [200, 401, 200]
        assert [len(gateway.reports) for gateway in gateways] == [2, 2]  # limits, keys and cooldowns report one outage together


@pytest.mark.parametrize("field", ["field", "version"])
@pytest.mark.parametrize("rubbish", ["SET", "RPUSH"])
async def test_keys_are_written_back_where_redis_has_other_data(own_redis: RedisServer, field: str, rubbish: str) -> None:
    key = RuntimeKey(KeyConfig(name="a", hash="sha256:" + "0" * 64), "lg-...", 1.0)
    async with AsyncExitStack() as stack:
        knowing, starting = RedisKeyStore(own_redis.address), RedisKeyStore(own_redis.address)
        for store in (knowing, starting):
            stack.push_async_callback(store.close)
        await knowing.put("a", key, new=True)
        assert await knowing.read_if_changed() == {"a": key}
        name = f"lockgate:{{keys}}:{getattr(KEYS, field)}"
        await run_command(own_redis.address, "DEL", name)
        await run_command(own_redis.address, rubbish, name, "x")
        assert await starting.read_if_changed() is None
        assert await knowing.read_if_changed() is None
        assert await starting.read_if_changed() == {"a": key}


async def test_missing_rights_of_the_redis_user_are_reported(up: FaultUpstream, own_redis: RedisServer) -> None:
    patterns = [f"~lockgate:{{{tag}}}:*" for tag in ("caller", "target", "ledger")]
    await run_command(own_redis.address, "ACL", "SETUSER", "default", "resetkeys", *patterns)
    async with AsyncExitStack() as stack:
        (one,) = await several(stack, up, own_redis, 1, "1s")
        await eventually(lambda: len(one.reports) == 3)
        assert sum("run-time keys cannot be read (" in line for line in one.reports) == 1
        assert sum("run-time teams cannot be read (" in line for line in one.reports) == 1
        assert sum("cooldowns are not shared with other instances (" in line for line in one.reports) == 1
        await run_command(own_redis.address, "ACL", "SETUSER", "default", "~*")
        await eventually(lambda: len(one.reports) == 6)
        assert not [line for line in one.reports if "Redis at" in line]


async def test_r1_until_the_key_store_was_read_an_unknown_key_is_503(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        token = await Operator(client, (await several(stack, up, own_redis, 1))[0]).make("new")
        own_redis.freeze()
        rest = REST + KEYED + f"store: {own_redis.url}\n"
        operator = Operator(client, gateway := await stack.enter_async_context(serving(up, rest)))
        assert (await operator.call(FIRST)).status_code == 200
        away = await operator.call(token)
        assert (away.status_code, away.json()["error"]["code"], away.headers["retry-after"]) == (503, "keys_unavailable", "1")
        assert (await client.post(f"{gateway.base_url}/chat/completions", json=chat())).status_code == 401
        assert gateway.count("lockgate_auth_failures", "invalid_api_key") == 1
        own_redis.thaw()
        await refused_within(lambda: asyncio.gather(operator.call(token)), 200, 20)
        assert (await operator.call("lg-nobody-0123456789abcdef")).status_code == 401


async def test_workers_and_the_command_line_share_keys(
    up: FaultUpstream,
    client: httpx.AsyncClient,
    own_redis: RedisServer,
    gateway: Callable[..., RunningGateway],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    yaml = f"""
store: {own_redis.url}
store_deadline: 10s
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models:
  m: up/mock
""" + REST + KEYED  # fmt: skip
    running = await asyncio.to_thread(gateway, yaml, {"UP_KEY": "sk-upstream-credential"}, ("--workers", "2"))
    await asyncio.to_thread(running.wait_ready)

    async def run(*args: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(command.run, ["key", *args, "--admin", running.admin_url])
        out, err = capsys.readouterr()
        return code, out, err

    code, _, err = await run("list")
    assert (code, "LOCKGATE_ADMIN_KEY" in err) == (1, True)
    monkeypatch.setenv("LOCKGATE_ADMIN_KEY", ADMIN)
    code, out, err = await run("create", "--name", "new", "--limits", "requests=1000/min,concurrent=9", "--team", "search")
    token = out.strip()
    assert (code, token[:3], "note" in err) == (0, "lg-", False)

    async def calls() -> list[httpx.Response]:
        headers = {**bearer(token), "connection": "close"}  # a new connection each, so that both workers get calls
        return await asyncio.gather(*(client.post(running.base_url + "/chat/completions", json=chat(), headers=headers) for _ in range(8)))

    await refused_within(calls, 200, 20)
    code, out, _ = await run("list")
    assert (code, token in out, f"{token[:6]}...{token[-4:]}" in out) == (0, False, True)
    assert [line.split("\t")[:2] for line in out.splitlines()] == [["first", "yaml"], ["new", "runtime"]]
    code, _, err = await run("create", "--name", "other", "--limits", "requests=1/fortnight")
    assert (code, "limits.requests: expected a rate" in err) == (1, True)
    assert await run("revoke", "new") == (0, "new is revoked\n", "")
    await refused_within(calls, 401, 20)
    scrape = await client.get(f"{running.admin_url}/metrics", headers=bearer(ADMIN))
    assert "lockgate_keys_revoked_total 1.0\n" in scrape.text  # counted once per gateway, regardless of its workers


async def commands(redis: RedisServer) -> int:
    """Return the number of commands that Redis has executed."""
    stats = (await run_command(redis.address, "INFO", "commandstats")).decode()
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in stats.splitlines() if line.startswith("cmdstat_"))


async def test_c28_unknown_keys_cause_no_redis_commands(up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        gateway = (await several(stack, up, own_redis, 1))[0]
        good = await Operator(client, gateway).make("good")
        before, began = await commands(own_redis), time.monotonic()
        for at in range(30):
            bad = [Operator(client, gateway).call(f"lg-bad-{at}-{each}") for each in range(20)]
            answers = await asyncio.gather(*bad, Operator(client, gateway).call(good))
            assert [answer.status_code for answer in answers] == [401] * 20 + [200]
        took, asked = time.monotonic() - began, await commands(own_redis) - before
        assert gateway.count("lockgate_auth_failures", "invalid_api_key") == 600
        # reservation and settlement of each valid call (a script counts several commands), heartbeats and polls; none for invalid keys
        each_call = 40
        assert asked < 30 * each_call + 60 * (took + 2)
        assert len(up.requests) == 30


async def test_the_documented_rights_of_the_redis_user_are_sufficient(
    up: FaultUpstream, client: httpx.AsyncClient, own_redis: RedisServer
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
    rights = text.partition("user gateway on >PASSWORD ")[2].partition("```")[0].split()
    assert "-@all" in rights
    await run_command(own_redis.address, "ACL", "SETUSER", "gateway", "on", ">pass-word", *rights)
    yaml = REST + KEYED + f"store: 'redis://gateway:${{STORE_KEY}}@127.0.0.1:{own_redis.port}/0'\nstore_deadline: 10s\n"
    text = one_model(up, yaml).replace("  first:", "  first_of_all:")
    async with live(text, environ={"UP_KEY": "sk-upstream-credential", "STORE_KEY": "pass-word"}) as gateway:
        operator = Operator(client, gateway)
        token = await operator.make("new", limits={"requests": "10/min", "concurrent": 2, "tokens": "100k/min"})
        assert [(await operator.call(token)).status_code for _ in range(2)] == [200, 200]
        assert (await operator.ask("DELETE", "/new")).status_code == 200
        await asyncio.sleep(2.5)  # for heartbeats, polls and publications
        for path in ("/metrics", "/admin/usage?by=key"):
            assert (await client.get(gateway.admin_url + path, headers=bearer(ADMIN))).status_code == 200
        assert gateway.reports == []
    denied = (await run_command(own_redis.address, "ACL", "LOG")) or []
    lacking = {entry[entry.index(b"object") + 1] for entry in denied} - {b"config|get", b"client|setinfo"}  # optional commands
    assert lacking == set()
