"""Run-time keys in a file, without Redis, and gateways that start without keys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.config.formats import Address
from gateway.config.load import parse
from gateway.http.listener import bind
from gateway.keys.stored_key import KEYS
from gateway.server.startup import announce
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, post_chat, serving
from tests.flows.live import eventually
from tests.flows.operator import ADMIN, FIRST, KEYED, REST, Operator, bearer


def without_usage(listed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the listed keys without the usage of their limits."""
    return [{field: value for field, value in key.items() if field != "usage"} for key in listed["data"]]


async def test_gateway_without_keys_starts_and_rejects_every_call(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, KEYED + "auth: keys\n") as gateway:
        operator = Operator(client, gateway)
        for headers in ({}, bearer(FIRST), bearer(ADMIN)):
            for path in ("/chat/completions", "/explain"):
                answer = await client.post(gateway.base_url + path, json=chat(), headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        token = await operator.make("first", limits={"requests": "2/h"})
        assert [(await operator.call(token)).status_code for _ in range(3)] == [200, 200, 429]
        assert (await operator.ask("DELETE", "/first")).status_code == 200
        assert (await post_chat(client, gateway)).status_code == 401  # revoking the last key does not open the gateway
    assert len(up.requests) == 2


ISSUER = "issuers: { staff: { issuer: 'https://login.example.com', audience: lockgate } }\n"


@pytest.mark.parametrize(("auth", "is_shown"), [("auth: keys\n", True), ("", False), (REST, False), (ISSUER, False)])
def test_startup_without_keys_shows_how_to_create_the_first(auth: str, is_shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    config = parse(
        ("providers: { up: { type: vllm, base_url: 'http://x/v1' } }\nmodels:\n  m: up/mock\n" + auth + KEYED).encode(), "g.yaml"
    )
    with bind(Address("127.0.0.1", 0)) as listener, bind(Address("127.0.0.1", 0)) as admin:
        announce(config, listener, admin)
        hint = f"no keys are configured; create one: lockgate key create --name NAME --admin http://127.0.0.1:{admin.getsockname()[1]}\n"
    shown = capsys.readouterr().err
    assert (hint in shown) is is_shown
    assert ("Bearer YOUR-TOKEN" in shown) is (auth == ISSUER)


async def test_runtime_keys_without_redis_survive_a_restart(up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path) -> None:
    rest = REST + KEYED + f"journal: {tmp_path}/state\n"
    async with serving(up, rest) as gateway:
        operator = Operator(client, gateway)
        kept, changed, revoked = [await operator.make(name, limits={"requests": "5/h"}) for name in ("kept", "changed", "revoked")]
        assert (await operator.ask("PATCH", "/changed", {"disabled": True})).status_code == 200
        assert (await operator.ask("DELETE", "/revoked")).status_code == 200
        listed = without_usage((await operator.ask("GET")).json())
    for file in (tmp_path / "state").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file.name
        assert not any(token[3:-4].encode() in file.read_bytes() for token in (kept, changed, revoked))
    async with serving(up, rest) as gateway:
        operator = Operator(client, gateway)
        assert [(await operator.call(token)).status_code for token in (kept, changed, revoked)] == [200, 403, 401]
        assert without_usage((await operator.ask("GET")).json()) == listed
        assert gateway.reports == []


async def test_gateways_with_one_key_file_share_runtime_keys(up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Two gateways use one file during a restart, while the old process still drains."""
    rest = REST + KEYED + f"journal: {tmp_path}\n"
    async with serving(up, rest) as one, serving(up, rest) as another:
        first, second = Operator(client, one), Operator(client, another)
        tokens = await asyncio.gather(*(operator.make(str(number)) for number, operator in enumerate([first, second] * 4)))
        await eventually(lambda: len(one.gateway.runtime_keys.keys) == len(another.gateway.runtime_keys.keys) == 8)
        assert {(await operator.call(token)).status_code for operator in (first, second) for token in tokens} == {200}
        assert (await first.ask("POST", "", {"name": "7"})).status_code == 409
        assert (await first.ask("DELETE", "/7")).status_code == 200
        await eventually(lambda: len(another.gateway.runtime_keys.keys) == 7)
        assert (await second.call(tokens[7])).status_code == 401


@pytest.mark.parametrize("damage", ["invalid content", "deleted", "not writable"])
async def test_damaged_key_file_leaves_the_loaded_keys_unchanged(
    up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path, damage: str
) -> None:
    async with serving(up, REST + KEYED + f"journal: {tmp_path}\n") as gateway:
        operator, file = Operator(client, gateway), tmp_path / KEYS.file
        token = await operator.make("new")
        if damage == "invalid content":
            file.write_bytes(b'{"new": 5}')
            await eventually(lambda: any("has invalid content" in line for line in gateway.reports))
        elif damage == "deleted":
            file.unlink()
        else:
            file.with_suffix(".new").mkdir()
        assert (await operator.call(token)).status_code == 200
        answer = await operator.ask("POST", "", {"name": "later"})
        if damage == "deleted":
            assert answer.status_code == 201
            assert set(msgspec.json.decode(file.read_bytes())) == {"new", "later"}
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
            assert [key["name"] for key in (await operator.ask("GET")).json()["data"]] == ["first", "new"]


async def test_key_created_without_a_journal_is_reported_as_lost_on_restart(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, REST + KEYED + "journal: off\n") as gateway:
        created = (await Operator(client, gateway).ask("POST", "", {"name": "new"})).json()
    assert created["note"] == (
        "'journal' is off, so this key is lost on restart. To keep it, set 'journal' to a folder or 'store' to a Redis URL."
    )


async def test_open_gateway_reports_that_runtime_keys_are_not_checked(up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path) -> None:
    async with serving(up, REST + KEYED + f"journal: {tmp_path}\n") as gateway:
        await Operator(client, gateway).make("new")
    rest = f"teams: {{ search: {{}} }}\njournal: {tmp_path}\n"
    async with serving(up, KEYED + rest) as gateway:
        assert [line.partition(": ")[2] for line in gateway.reports] == [
            "authentication is off, although there are run-time keys (1); set `auth: keys` to require them"
        ]
