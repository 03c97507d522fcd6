"""Certificates, authorities, connections and engines across a reload: new calls use the new ones, open calls keep theirs."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from pathlib import Path

import httpx
import pytest
import trustme

from tests.faults.behaviours import status
from tests.faults.client import ask
from tests.faults.tls import Certificates
from tests.faults.upstream_server import HANG, FaultUpstream, play
from tests.flows.conftest import CREDENTIAL, chat, held, issue_certificate, one_model, post_chat
from tests.flows.live import eventually, live
from tests.flows.processes import (
    UNUSED_STORE,
    Start,
    admin,
    has_new_workers,
    has_reload_error,
    is_generation,
    kill_workers,
    port,
    start_ready,
    until,
)
from tests.flows.test_reload_flow import call
from tests.running import RunningGateway

ENVIRON = {"UP_KEY": CREDENTIAL}


async def test_replaced_certificate_authority_is_trusted_after_a_reload(client: httpx.AsyncClient, tmp_path: Path) -> None:
    authorities = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        authorities.append(Certificates(tmp_path / name))
    ca = tmp_path / "ca.pem"
    shutil.copy(authorities[0].ca, ca)
    for transport in ("native", "httpx"):
        async with (
            FaultUpstream(tls="good", certificates=authorities[0]) as old,
            FaultUpstream(tls="good", certificates=authorities[1]) as new,
        ):
            shutil.copy(authorities[0].ca, ca)
            more = f'ca: "{ca}", transport: {transport}, type:'
            async with live(one_model(old).replace("type:", more), environ=ENVIRON, watch=True) as gateway:
                assert (await call(client, gateway)).status_code == 200
                gateway.path.write_text(one_model(new).replace("type:", more))
                await eventually(lambda gateway=gateway: gateway.gateway.generation.number == 2)  # type: ignore[misc]
                assert (await call(client, gateway)).status_code == 502
                shutil.copy(authorities[1].ca, ca)
                await eventually(lambda gateway=gateway: gateway.gateway.generation.number == 3)  # type: ignore[misc]
                assert (await call(client, gateway)).status_code == 200


async def test_connection_pools_of_older_generations_are_removed(client: httpx.AsyncClient) -> None:
    async with live(one_model(FaultUpstream(port=1)), environ=ENVIRON) as gateway:
        for number in range(12):
            assert (await call(client, gateway)).status_code == 502
            gateway.path.write_text(one_model(FaultUpstream(port=number + 2)))
            assert await gateway.reloader.reload() == "applied"
        assert len(gateway.gateway.resources.native._pools) <= 1


async def test_removing_max_concurrent_releases_queued_calls(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    limited = one_model(up).replace("type:", "max_concurrent: 1, max_queue: 5, max_wait: 60s, type:")
    async with live(limited, environ=ENVIRON) as gateway:
        up.once(play(HANG))
        first = asyncio.create_task(call(client, gateway))
        await up.wait_for(lambda up: len(up.requests) == 1)
        (health,) = gateway.gateway.health.all()
        waiting = [asyncio.create_task(call(client, gateway)) for _ in range(3)]
        await eventually(lambda: health.waiting == 3)
        gateway.path.write_text(one_model(up))
        assert await gateway.reloader.reload() == "applied"
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200, 200]
        gateway.path.write_text(limited)
        assert await gateway.reloader.reload() == "applied"
        first.cancel()
        await eventually(lambda: health.in_flight == 0)
        assert health.bulkhead is not None
        assert health.bulkhead.running == 0  # the first call was not admitted by this bulkhead


async def test_unused_transport_is_closed_once_its_calls_end(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    release = asyncio.Event()
    up.once(held(release))
    yaml = one_model(up).replace("type:", "transport: httpx, type:")
    async with live(yaml, environ=ENVIRON) as gateway:
        stream = asyncio.create_task(post_chat(client, gateway, stream=True))
        await up.wait_for(lambda up: len(up.requests) == 1)
        gateway.path.write_text(one_model(up))
        assert await gateway.reloader.reload() == "applied"
        assert (await call(client, gateway, max_tokens=1)).status_code == 200
        assert len(gateway.gateway.resources._httpx) == 1
        release.set()
        assert (await stream).text.endswith("data: [DONE]\n\n")
        await eventually(lambda: gateway.gateway.resources._httpx == {})


async def test_engine_is_kept_unless_its_options_change_and_a_bad_model_is_rejected(client: httpx.AsyncClient, tmp_path: Path) -> None:
    yaml = "providers:\n  local: { slots: 1, context: 512 }\nmodels: { m: local/x }\n"
    async with live(yaml) as gateway:
        first = gateway.gateway.generation.engines["local"]
        await eventually(lambda: first.state == "ready", 120)
        gateway.path.write_text(yaml + "max_body: 5MiB\n")
        assert await gateway.reloader.reload() == "applied"
        assert gateway.gateway.generation.engines["local"] is first
        (tmp_path / "bad.gguf").write_text("not a model")
        gateway.path.write_text(yaml.replace("slots: 1", f'slots: 1, model: "{tmp_path / "bad.gguf"}"'))
        assert await gateway.reloader.reload() == "failed"
        assert "the local engine's model cannot be used" in gateway.reloader.problems[0].message
        assert gateway.gateway.generation.engines["local"] is first
        assert (await call(client, gateway, max_tokens=1)).status_code == 200
        gateway.path.write_text(yaml.replace("slots: 1", "slots: 2"))
        assert await gateway.reloader.reload() == "applied"
        second = gateway.gateway.generation.engines["local"]
        assert second is not first
        assert second.state == "ready", "the model is loaded before the engine is used"
        await eventually(lambda: first.state == "stopped")
        assert (await call(client, gateway, max_tokens=1)).status_code == 200
        gateway.path.write_text("providers: {}\n")
        assert await gateway.reloader.reload() == "applied"
        await eventually(lambda: second.state == "stopped")


async def served_certificate(running: RunningGateway, context: ssl.SSLContext) -> bytes:
    """Return the certificate that a new connection receives."""
    _, writer = await asyncio.open_connection("127.0.0.1", port(running), ssl=context, server_hostname="127.0.0.1")
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()  # otherwise the socket is left to the garbage collector
    return certificate


async def test_renewed_certificate_applies_to_new_connections_and_open_ones_stay(gateway: Start, tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    tls = issue_certificate(authority, tmp_path)
    async with FaultUpstream() as up:
        yaml = one_model(up, tls)
        running = await start_ready(gateway, yaml, env=ENVIRON)
        async with httpx.AsyncClient(verify=context, trust_env=False) as kept:
            assert (await post_chat(kept, running)).status_code == 200
            first = await served_certificate(running, context)
            issue_certificate(authority, tmp_path)
            await until(lambda: _is_reloaded(running))
            second = await served_certificate(running, context)
            assert (await post_chat(kept, running)).status_code == 200
    assert first != second


async def _is_reloaded(running: RunningGateway) -> bool:
    """Return whether a later generation serves: the two files may have been loaded one by one."""
    return not await is_generation(running, 1)


@pytest.mark.prove
async def test_replacement_worker_uses_the_loaded_certificate_if_the_file_is_broken(gateway: Start, tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    tls = issue_certificate(authority, tmp_path)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with FaultUpstream() as up:
        yaml = one_model(up, UNUSED_STORE + tls).replace("type:", f'ca: "{tmp_path / "ca.pem"}", type:')
        running = await start_ready(gateway, yaml, workers=2, env=ENVIRON)
        first = await served_certificate(running, context)
        (tmp_path / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
        (tmp_path / "ca.pem").unlink()
        await until(lambda: has_reload_error(running))
        assert (await admin(running, "/admin/config")).json()["generation"] == 1
        killed = kill_workers(running)
        await until(lambda: _new_workers_answer(running, context, killed))
        assert await served_certificate(running, context) == first
        assert running.stderr.count("restarting in") == 2
        issue_certificate(authority, tmp_path)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        await until(lambda: _has_other_certificate(running, context, first))


async def _new_workers_answer(running: RunningGateway, context: ssl.SSLContext, killed: set[int]) -> bool:
    """Return whether two new workers run and ten calls in a row are answered."""
    if not has_new_workers(running, killed):
        return False
    try:
        for _ in range(10):
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                if (await post_chat(client, running, max_tokens=1)).status_code != 200:
                    return False
    except httpx.HTTPError:
        return False
    return True


async def _has_other_certificate(running: RunningGateway, context: ssl.SSLContext, first: bytes) -> bool:
    """Return whether new connections receive another certificate."""
    return await served_certificate(running, context) != first


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.prove), 2])
async def test_u30_rejected_credential_reloads_its_file_once(gateway: Start, tmp_path: Path, workers: int) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sk-old-0123456789abcdef")
    secret.chmod(0o600)
    async with FaultUpstream() as up:
        up.on(lambda request: request.header("authorization") != "Bearer sk-new-0123456789abcdef", status(401, "unknown key"))
        yaml = f"""
{UNUSED_STORE}
providers: {{ up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "file:{secret}" }} }}
models: {{ m: up/mock }}
"""
        running = await start_ready(gateway, yaml, workers=workers)
        assert await _unchanged_reloads(running) == 0
        for _ in range(20 * workers):
            assert (await ask(port(running), chat(max_tokens=1))).status in (502, 503)
        await until(lambda: _has_reread_files(running))
        assert await _unchanged_reloads(running) <= workers  # not once per call
        secret.write_text("sk-new-0123456789abcdef")
        await until(lambda: _serves_five_calls(running))


async def _unchanged_reloads(running: RunningGateway) -> int:
    """Return the number of times that the files were read and found unchanged."""
    lines = (await admin(running, "/metrics")).text.splitlines()
    return int(next((float(line.split()[-1]) for line in lines if line.startswith('lockgate_config_reloads_total{outcome="unchanged"')), 0))


async def _has_reread_files(running: RunningGateway) -> bool:
    return await _unchanged_reloads(running) > 0


async def _serves_five_calls(running: RunningGateway) -> bool:
    return [(await ask(port(running), chat(max_tokens=1))).status for _ in range(5)] == [200] * 5
