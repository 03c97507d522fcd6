"""The configuration file changes while calls run, written in different ways and with valid or invalid content."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, chat, one_model, post_chat, serving
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest

TOKEN = "sk-the-callers-own-key-0123456789"
OTHER = "sk-another-callers-key-0123456789"
ENVIRON = {"UP_KEY": CREDENTIAL}


def key(name: str, token: str, more: str = "") -> str:
    """Return one entry of `keys`."""
    return f'  {name}: {{ hash: "{digest(token)}"{more} }}\n'


async def call(client: httpx.AsyncClient, gateway: Live, model: str = "m", token: str = TOKEN, **more: Any) -> httpx.Response:
    """Send one call with a key."""
    return await post_chat(client, gateway, model, headers=bearer(token), **more)


async def admin_config(client: httpx.AsyncClient, gateway: Live) -> dict[str, Any]:
    """Return the answer of /admin/config."""
    answer = await client.get(gateway.admin_url + "/admin/config")
    assert answer.status_code == 200
    shown: dict[str, Any] = answer.json()
    return shown


def write(gateway: Live, text: str) -> None:
    """Rewrite the file in place."""
    gateway.path.write_text(text)


def replace(gateway: Live, text: str) -> None:
    """Write a new file and rename it over the old one."""
    new = gateway.path.with_suffix(".new")
    new.write_text(text)
    new.rename(gateway.path)


def update_mount(gateway: Live, text: str) -> None:
    """Update the file as Kubernetes updates a ConfigMap: a new folder, and an atomically replaced link to it."""
    folder = gateway.path.parent
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir()
    (version / "gateway.yaml").write_text(text)
    (folder / "..data_tmp").symlink_to(version.name)
    (folder / "..data_tmp").rename(folder / "..data")
    if not gateway.path.is_symlink():
        gateway.path.unlink()
        gateway.path.symlink_to("..data/gateway.yaml")


@pytest.mark.parametrize("way", [write, replace, update_mount])
async def test_p6_changed_file_is_applied_however_it_is_written(
    up: FaultUpstream, client: httpx.AsyncClient, way: Callable[[Live, str], None]
) -> None:
    yaml = one_model(up)
    async with live(yaml, environ=ENVIRON, watch=True) as gateway:
        if way is update_mount:
            way(gateway, yaml)
            await asyncio.sleep(1.0)
            assert gateway.gateway.generation.number == 1, "unchanged content is not reloaded"
        for number in (2, 3):
            assert (await call(client, gateway, f"m{number}")).status_code == 404
            way(gateway, yaml + f"  m{number}: m\n")
            # 2 s are promised and 0.6 s are usual; the limit ends a hang
            await eventually(lambda number=number: gateway.gateway.generation.number == number, 60)  # type: ignore[misc]
            assert (await call(client, gateway, f"m{number}")).status_code == 200
        await eventually(lambda: gateway.reloader.counts == {"applied": 2, "failed": 0, "unchanged": 0})  # counted after the change


BAD = {
    "bad YAML": (lambda yaml: yaml + "keys: [\n", r":\d+:\d+: "),
    "unknown field": (lambda yaml: yaml + "retrys: 1\n", r":\d+:\d+: retrys: unknown key"),
    "duplicate key": (lambda yaml: yaml + "models: {}\n", r":\d+:\d+: models: duplicate key"),
    "missing env": (lambda yaml: yaml.replace("UP_KEY", "NOT_SET"), r":\d+:\d+: providers.up.api_key: .*NOT_SET"),
    "alias bomb": (lambda yaml: yaml + bomb(), r":\d+:\d+: .*(aliases|levels|values)"),
    "100 MB": (lambda yaml: yaml + "# padding\n" * 10_000_000, r":1:1: the file is larger than"),
    "truncated": (lambda yaml: yaml[: yaml.index("api_key") + 12], r":\d+:\d+: "),
    "empty": (lambda yaml: "", r":1:1: the file is empty"),
    "deleted": (lambda yaml: None, r": no such file"),
}  # fmt: skip


WATCHED = ("bad YAML", "deleted")
"""Faults that the file watch finds. The others are loaded on request, which is faster."""


def bomb() -> str:
    """Return YAML whose aliases expand to a billion values."""
    lines = ["cors: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize("what", BAD)
async def test_p5_bad_file_is_not_applied_and_is_reported_everywhere(up: FaultUpstream, client: httpx.AsyncClient, what: str) -> None:
    yaml = one_model(up)
    spoil, message = BAD[what]
    bad = spoil(yaml)  # type: ignore[no-untyped-call]
    async with live(yaml, environ=ENVIRON, watch=what in WATCHED) as gateway:
        before, started = gateway.gateway.generation, gateway.reloader.last_reload_at
        if bad is None:
            gateway.path.unlink()
        else:
            write(gateway, bad)
        if what in WATCHED:
            await eventually(lambda: gateway.reloader.counts["failed"] >= 1, 20)
        else:
            assert await gateway.reloader.reload() == "failed"
        assert gateway.gateway.generation is before
        assert (await call(client, gateway)).status_code == 200
        shown = await admin_config(client, gateway)
        metrics = (await client.get(gateway.admin_url + "/metrics")).text
        assert shown["generation"] == 1
        assert shown["config"]["models"]["m"]["targets"] == "up/mock"
        assert shown["last_reload"]["successful"] is False
        lines = [error["line"] for error in shown["error"]]
        assert lines[0].startswith(str(gateway.path))
        assert any(re.search(message, line) for line in lines), lines
        assert 'lockgate_config_reloads_total{outcome="failed"}' in metrics
        assert "lockgate_config_last_reload_successful 0.0" in metrics
        attempted = re.search(r"^lockgate_config_last_reload_timestamp_seconds (\S+)$", metrics, re.MULTILINE)
        assert attempted is not None, "the time of the last attempt, also of a failed one"
        assert started < float(attempted[1]) == pytest.approx(shown["last_reload"]["at"], abs=1e-3)
        assert "lockgate_config_generation 1.0" in metrics
        assert any("reload failed, generation 1 is still serving" in line for line in gateway.reports)
        write(gateway, yaml)  # the original content
        if what in WATCHED:
            await eventually(lambda: not gateway.reloader.problems)
        else:
            assert await gateway.reloader.reload() == "unchanged"
        assert gateway.gateway.generation is before
        assert (await admin_config(client, gateway))["error"] == []


async def test_admin_reload_applies_a_changed_file_and_skips_an_unchanged_one(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = one_model(up)
    async with live(yaml, environ=ENVIRON) as gateway:
        same = await client.post(gateway.admin_url + "/admin/reload")
        os.utime(gateway.path)
        touched = await client.post(gateway.admin_url + "/admin/reload")
        write(gateway, yaml + "  n: m\n")
        applied = await client.post(gateway.admin_url + "/admin/reload")
        write(gateway, yaml + "  n: unknown/x\n")
        failed = await client.post(gateway.admin_url + "/admin/reload")
        got = await client.get(gateway.admin_url + "/admin/reload")
    assert [answer.json()["outcome"] for answer in (same, touched, applied)] == ["unchanged", "unchanged", "applied"]
    assert applied.json()["generation"] == 2
    assert (failed.status_code, failed.json()["outcome"], failed.json()["generation"]) == (422, "failed", 2)
    assert failed.json()["error"][0]["path"] == "models.n"
    assert [line.split(" (")[0] for line in failed.json()["rejected"]] == ["~ models.n"]
    assert got.status_code == 405
    assert [line for line in gateway.reports if "generation 2 is serving: models: 1 added" in line]


async def test_admin_config_shows_no_secret(up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sk-from-a-file-0123456789")
    secret.chmod(0o600)
    yaml = one_model(up, f"keys:\n{key('one', TOKEN)}").replace('"${UP_KEY}"', f'["${{UP_KEY}}", "file:{secret}"]')
    async with live(yaml.replace("type:", 'headers: { x-mine: "${UP_KEY}" }, type:'), environ=ENVIRON) as gateway:
        text = json.dumps(await admin_config(client, gateway))
    assert CREDENTIAL not in text
    assert "sk-from-a-file" not in text
    assert digest(TOKEN).removeprefix("sha256:") not in text
    assert '"api_key": ["***", "***"]' in text


async def test_changed_secret_file_is_reloaded(up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sk-first-0123456789")
    secret.chmod(0o600)
    async with live(one_model(up).replace('"${UP_KEY}"', f'"file:{secret}"'), watch=True) as gateway:
        await call(client, gateway)
        secret.write_text("sk-second-0123456789")
        await eventually(lambda: gateway.gateway.generation.number == 2)
        await call(client, gateway)
        secret.unlink()
        await eventually(lambda: gateway.reloader.counts["failed"] == 1)
        assert (await call(client, gateway)).status_code == 200
    sent = [request.header("authorization") for request in up.requests]
    assert sent == ["Bearer sk-first-0123456789", "Bearer sk-second-0123456789", "Bearer sk-second-0123456789"]


async def open_stream(client: httpx.AsyncClient, gateway: Live, token: str = TOKEN) -> tuple[httpx.Response, Any]:
    """Open a stream and read its first event. Return the response and its remaining lines."""
    request = client.build_request("POST", gateway.base_url + "/chat/completions", json=chat(stream=True), headers=bearer(token))
    answer = await client.send(request, stream=True)
    lines = answer.aiter_lines()
    await anext(lines)
    return answer, lines


async def test_p8_removed_key_is_rejected_at_once_and_its_open_stream_continues(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks, up.delay = 40, 0.05
    async with live(one_model(up, f"keys:\n{key('one', TOKEN)}{key('two', OTHER)}"), environ=ENVIRON, watch=True) as gateway:
        answer, lines = await open_stream(client, gateway)
        write(gateway, one_model(up, f"keys:\n{key('two', OTHER)}"))
        await eventually(lambda: gateway.gateway.generation.number == 2)
        assert (await call(client, gateway)).status_code == 401
        assert (await call(client, gateway, token=OTHER, max_tokens=1)).status_code == 200
        rest = [line async for line in lines if line]
        await answer.aclose()
        records = await gateway.records(3)
    assert rest[-1] == "data: [DONE]"
    assert sum('"content"' in line for line in rest) >= 39
    assert [record["status"] for record in records if record.get("stream")] == [200]


async def test_p8_removed_provider_is_unknown_at_once_and_its_open_stream_continues(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks, up.delay = 40, 0.05
    async with FaultUpstream() as second, live(one_model(up), environ=ENVIRON, watch=True) as gateway:
        answer, lines = await open_stream(client, gateway)
        write(gateway, one_model(second).replace("up:", "other:").replace("m: up/", "n: other/"))
        await eventually(lambda: gateway.gateway.generation.number == 2)
        assert (await call(client, gateway)).status_code == 404
        assert (await call(client, gateway, "n")).status_code == 200
        rest = [line async for line in lines if line]
        await answer.aclose()
    assert rest[-1] == "data: [DONE]"


async def test_limit_windows_of_a_kept_key_survive_a_reload(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    def yaml(limit: str) -> str:
        return one_model(up, f"keys:\n{key('one', TOKEN, f', limits: {{ requests: {limit} }}')}")

    async with live(yaml("5/h"), environ=ENVIRON) as gateway:
        remaining = [(await call(client, gateway)).headers["x-ratelimit-remaining-requests"] for _ in range(3)]
        write(gateway, yaml("4/h"))
        assert await gateway.reloader.reload() == "applied"
        last = await call(client, gateway)
        over = await call(client, gateway)
    assert remaining == ["4", "3", "2"]
    assert (last.status_code, last.headers["x-ratelimit-remaining-requests"]) == (200, "0")
    assert over.status_code == 429


async def test_p7_reloads_under_load_fail_no_call_and_cut_no_stream(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    """A short version of the proof in test_reload_proof.py."""
    up.chunks, up.delay = 60, 0.02
    async with live(one_model(up), environ=ENVIRON) as gateway:
        streams = [asyncio.create_task(post_chat(client, gateway, stream=True)) for _ in range(10)]
        statuses: list[int] = []
        done = asyncio.Event()

        async def call_repeatedly() -> None:
            while not done.is_set():
                statuses.append((await call(client, gateway, max_tokens=1)).status_code)

        loads = [asyncio.create_task(call_repeatedly()) for _ in range(3)]
        for number in range(20):
            write(gateway, one_model(up, f"max_body: {number + 1}MiB\n"))
            assert await gateway.reloader.reload() == "applied"
            await asyncio.sleep(0.05)
        done.set()
        await asyncio.gather(*loads)
        texts = [(await stream).text for stream in streams]
        assert gateway.gateway.generation.number == 21
    assert set(statuses) == {200}
    assert all(text.endswith("data: [DONE]\n\n") and text.count('"content"') >= 60 for text in texts)


async def test_retired_generations_are_freed(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(one_model(up), environ=ENVIRON) as gateway:
        generations = []
        for number in range(10):
            generations.append(weakref.ref(gateway.gateway.generation))
            assert (await call(client, gateway)).status_code == 200
            write(gateway, one_model(up, f"max_body: {number + 1}MiB\n"))
            assert await gateway.reloader.reload() == "applied"
        series = sum(map(len, gateway.gateway.metrics.counts.values()))

        def freed() -> bool:
            gc.collect()
            return [reference() for reference in generations] == [None] * 10

        await eventually(freed)
        assert (await call(client, gateway)).status_code == 200
        assert sum(map(len, gateway.gateway.metrics.counts.values())) == series


async def test_a_retired_generation_is_reported_when_its_last_call_has_ended(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks, up.delay = 20, 0.05
    async with live(one_model(up), environ=ENVIRON) as gateway:
        retired: list[int] = []
        gateway.gateway.on_retired = lambda: retired.append(len(gateway.gateway._replaced))
        answer, lines = await open_stream(client, gateway)
        write(gateway, one_model(up, "max_body: 1MiB\n"))
        assert await gateway.reloader.reload() == "applied"
        is_early = bool(retired)
        assert [line async for line in lines if line][-1] == "data: [DONE]"
        await answer.aclose()
        await eventually(lambda: retired == [0])
    assert not is_early


NEEDS_RESTART = [
    ("listen: 127.0.0.1:9\n", ["listen"]),
    ("admin: 127.0.0.1:9\n", ["admin.listen"]),
    ("store: redis://127.0.0.1:1/0\n", ["store"]),
    ("trusted_proxies: [10.0.0.0/8]\n", ["trusted_proxies"]),
    ("max_body: 5MiB\n", []),
]


@pytest.mark.parametrize(("change", "names"), NEEDS_RESTART)
async def test_change_that_needs_a_restart_is_reported_and_the_rest_is_applied(
    up: FaultUpstream, client: httpx.AsyncClient, change: str, names: list[str]
) -> None:
    async with live(one_model(up), environ=ENVIRON) as gateway:
        before = gateway.gateway.config
        write(gateway, one_model(up, "  n: m\n" + change))
        assert await gateway.reloader.reload() == "applied"
        assert (await call(client, gateway, "n")).status_code == 200
        shown = await admin_config(client, gateway)
        after = gateway.gateway.config
        assert (after.listen, after.admin.listen, after.store) == (before.listen, before.admin.listen, before.store)
    assert [line.split()[1].rstrip(":") for line in shown["needs_restart"]] == names
    assert ["needs a restart" in line for line in gateway.reports if "generation 2" in line] == [bool(names)]


async def test_removing_all_keys_is_rejected_while_the_listener_is_public(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    """A new listen address needs a restart, so the old, public listener would accept calls without a key."""
    yaml = "listen: 0.0.0.0:8080\n" + one_model(up, f"keys:\n{key('one', TOKEN)}")
    async with live(yaml, environ=ENVIRON) as gateway:
        write(gateway, "listen: 127.0.0.1:8080\n" + one_model(up))
        assert await gateway.reloader.reload() == "failed"
        assert "there are no keys" in gateway.reloader.problems[0].message
        assert (await post_chat(client, gateway)).status_code == 401


@pytest.mark.parametrize(
    ("auth", "outcome", "status"), [("", "failed", 401), ("auth: keys\n", "applied", 401), ("auth: none\n", "applied", 200)]
)
async def test_removing_the_last_key_is_rejected_unless_auth_is_set(
    up: FaultUpstream, client: httpx.AsyncClient, auth: str, outcome: str, status: int
) -> None:
    admin = f"admin: {{ key_hash: '{digest('lg-admin-0123456789abcdef')}' }}\n"
    async with live(one_model(up, f"{admin}keys:\n{key('one', TOKEN)}"), environ=ENVIRON) as gateway:
        write(gateway, one_model(up, admin + auth))
        assert await gateway.reloader.reload() == outcome
        assert (await post_chat(client, gateway)).status_code == status
        if outcome == "failed":
            assert "removing the last key or issuer would open the gateway: set auth: keys" in gateway.reloader.problems[0].message


async def test_cors_and_admin_key_are_reloaded(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    origin = {"origin": "https://app.example"}
    async with serving(up) as gateway:
        without = await post_chat(client, gateway, headers=origin)
        write(gateway, one_model(up, f'cors: ["https://app.example"]\nadmin: {{ key_hash: "{digest(TOKEN)}" }}\n'))
        assert await gateway.reloader.reload() == "applied"
        with_cors = await post_chat(client, gateway, headers=origin)
        refused = [(await client.get(gateway.admin_url + path)).status_code for path in ("/admin/config", "/metrics", "/healthz")]
        reload = await client.post(gateway.admin_url + "/admin/reload")
        allowed = await client.get(gateway.admin_url + "/admin/config", headers=bearer(TOKEN))
    assert "access-control-allow-origin" not in without.headers
    assert with_cors.headers["access-control-allow-origin"] == "https://app.example"
    assert refused == [401, 401, 200]
    assert (reload.status_code, allowed.status_code) == (401, 200)
