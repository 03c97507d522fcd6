"""What a reload does to certificates, authorities, connections and engines: new calls get new ones, open calls keep theirs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trustme

from tests.faults.behaviours import status
from tests.faults.client import ask
from tests.faults.tls import Certificates
from tests.faults.upstream_server import HANG, FaultUpstream, play
from tests.flows.conftest import CREDENTIAL, chat, one_model
from tests.flows.live import eventually, live
from tests.flows.test_process import children
from tests.flows.test_reload_flow import call
from tests.flows.test_shutdown_flow import admin, generation, port, until
from tests.running import RunningGateway

ENVIRON = {"UP_KEY": CREDENTIAL}


async def test_an_authority_that_was_replaced_is_trusted_after_the_reload(client: httpx.AsyncClient, tmp_path: Path) -> None:
    makers = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        makers.append(Certificates(tmp_path / name))
    ca = tmp_path / "ca.pem"
    shutil.copy(makers[0].ca, ca)
    for transport in ("native", "httpx"):
        async with FaultUpstream(tls="good", certificates=makers[0]) as old, FaultUpstream(tls="good", certificates=makers[1]) as new:
            shutil.copy(makers[0].ca, ca)
            more = f'ca: "{ca}", transport: {transport}, type:'
            async with live(one_model(old).replace("type:", more), environ=ENVIRON, watch=True) as gateway:
                assert (await call(client, gateway)).status_code == 200
                gateway.path.write_text(one_model(new).replace("type:", more))
                await eventually(lambda gateway=gateway: gateway.gateway.generation.number == 2)  # type: ignore[misc]
                assert (await call(client, gateway)).status_code == 502
                shutil.copy(makers[1].ca, ca)
                await eventually(lambda gateway=gateway: gateway.gateway.generation.number == 3)  # type: ignore[misc]
                assert (await call(client, gateway)).status_code == 200


async def test_origins_of_older_generations_leave_nothing_behind(client: httpx.AsyncClient) -> None:
    async with live(one_model(FaultUpstream(port=1)), environ=ENVIRON) as gateway:
        for number in range(12):
            assert (await call(client, gateway)).status_code == 502
            gateway.path.write_text(one_model(FaultUpstream(port=number + 2)))
            assert await gateway.reloader.reload() == "applied"
        assert len(gateway.gateway.resources.native._pools) <= 1


async def test_calls_that_wait_for_a_turn_go_on_when_the_bound_is_taken_away(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    bound = one_model(up).replace("type:", "max_concurrent: 1, max_queue: 5, max_wait: 60s, type:")
    async with live(bound, environ=ENVIRON) as gateway:
        up.once(play(HANG))
        first = asyncio.create_task(call(client, gateway))
        await up.wait_for(lambda up: len(up.requests) == 1)
        (health,) = gateway.gateway.health.all()
        waiting = [asyncio.create_task(call(client, gateway)) for _ in range(3)]
        await eventually(lambda: health.waiting == 3)
        gateway.path.write_text(one_model(up))
        assert await gateway.reloader.reload() == "applied"
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200, 200]
        gateway.path.write_text(bound)
        assert await gateway.reloader.reload() == "applied"
        first.cancel()
        await eventually(lambda: health.in_flight == 0)
        assert health.bulkhead is not None
        assert health.bulkhead.running == 0  # it never let the first one in


async def test_transports_that_no_generation_uses_are_closed_once_their_calls_have_ended(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.chunks, up.delay = 20, 0.05
    yaml = one_model(up).replace("type:", "transport: httpx, type:")
    async with live(yaml, environ=ENVIRON) as gateway:
        stream = asyncio.create_task(client.post(gateway.base_url + "/chat/completions", json=chat(stream=True)))
        await eventually(lambda: gateway.gateway.metrics.in_flight == 1)
        gateway.path.write_text(one_model(up))
        assert await gateway.reloader.reload() == "applied"
        assert (await call(client, gateway, max_tokens=1)).status_code == 200
        assert len(gateway.gateway.resources._httpx) == 1
        assert (await stream).text.endswith("data: [DONE]\n\n")
        await eventually(lambda: gateway.gateway.resources._httpx == {})


async def test_an_engine_stays_while_its_options_do_and_a_model_that_cannot_be_loaded_replaces_none(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    yaml = "providers:\n  local: { slots: 1, context: 512 }\nmodels: { m: local/x }\n"
    async with live(yaml) as gateway:
        first = gateway.gateway.generation.engines["local"]
        await eventually(lambda: first.state == "ready", 120)
        gateway.path.write_text(yaml + "max_body: 5MiB\n")
        assert await gateway.reloader.reload() == "applied"
        assert gateway.gateway.generation.engines["local"] is first
        (tmp_path / "bad.gguf").write_text("this is no model")
        gateway.path.write_text(yaml.replace("slots: 1", f'slots: 1, model: "{tmp_path / "bad.gguf"}"'))
        assert await gateway.reloader.reload() == "failed"
        assert "the local engine's model cannot be used" in gateway.reloader.problems[0].message
        assert gateway.gateway.generation.engines["local"] is first
        assert (await call(client, gateway, max_tokens=1)).status_code == 200
        gateway.path.write_text(yaml.replace("slots: 1", "slots: 2"))
        assert await gateway.reloader.reload() == "applied"
        second = gateway.gateway.generation.engines["local"]
        assert second is not first
        assert second.state == "ready", "its model is loaded before it takes over"
        await eventually(lambda: first.state == "stopped")
        assert (await call(client, gateway, max_tokens=1)).status_code == 200
        gateway.path.write_text("providers: {}\n")
        assert await gateway.reloader.reload() == "applied"
        await eventually(lambda: second.state == "stopped")


def certificate(authority: trustme.CA, folder: Path) -> None:
    """A new certificate and its key, in the same files."""
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "key.pem").chmod(0o600)
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))


async def shown_certificate(running: RunningGateway, context: ssl.SSLContext) -> bytes:
    """What a new connection gets to see."""
    _, writer = await asyncio.open_connection("127.0.0.1", port(running), ssl=context, server_hostname="127.0.0.1")
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()  # a loop that ends before would leave the socket to the garbage collector
    return found


async def test_a_renewed_certificate_is_shown_to_new_connections_and_open_ones_stay(
    gateway: Callable[..., RunningGateway], tmp_path: Path
) -> None:
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    certificate(authority, tmp_path)
    async with FaultUpstream() as up:
        yaml = one_model(up, f'tls: {{ cert: "{tmp_path / "cert.pem"}", key: "{tmp_path / "key.pem"}" }}\n')
        running = await asyncio.to_thread(gateway, yaml, ENVIRON)
        await asyncio.to_thread(running.wait_ready)
        async with httpx.AsyncClient(verify=context, trust_env=False) as kept:
            assert (await kept.post(running.base_url + "/chat/completions", json=chat())).status_code == 200
            first = await shown_certificate(running, context)
            certificate(authority, tmp_path)
            await until(lambda: _past(running, 1))
            second = await shown_certificate(running, context)
            assert (await kept.post(running.base_url + "/chat/completions", json=chat())).status_code == 200
    assert first != second


async def _past(running: RunningGateway, number: int) -> bool:
    """Whether a later generation serves: the two files may have been seen one by one."""
    return not await generation(running, number)


async def test_a_worker_that_starts_after_the_certificate_was_broken_shows_the_one_of_the_others(
    gateway: Callable[..., RunningGateway], tmp_path: Path
) -> None:
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    certificate(authority, tmp_path)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with FaultUpstream() as up:
        tls = f'store: redis://127.0.0.1:1/0\ntls: {{ cert: "{tmp_path / "cert.pem"}", key: "{tmp_path / "key.pem"}" }}\n'
        yaml = one_model(up, tls).replace("type:", f'ca: "{tmp_path / "ca.pem"}", type:')
        running = await asyncio.to_thread(gateway, yaml, ENVIRON, ("--workers", "2"))
        await asyncio.to_thread(running.wait_ready)
        first = await shown_certificate(running, context)
        (tmp_path / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
        (tmp_path / "ca.pem").unlink()
        await until(lambda: _fails(running))
        for pid in (before := set(children(running.pid))):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: _answers(running, context, before))
        assert await shown_certificate(running, context) == first
        assert running.stderr.count("restarting in") == 2
        certificate(authority, tmp_path)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        await until(lambda: _shows_another(running, context, first))


async def _fails(running: RunningGateway) -> bool:
    """Whether the last reload came to nothing."""
    found = (await admin(running, "/admin/config")).json()
    return bool(found["error"]) and found["generation"] == 1


async def _answers(running: RunningGateway, context: ssl.SSLContext, before: set[int]) -> bool:
    """Whether two other workers are there, and ten calls in a row are answered."""
    if len(set(children(running.pid)) - before) < 2:
        return False
    try:
        for _ in range(10):
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                if (await client.post(running.base_url + "/chat/completions", json=chat(max_tokens=1))).status_code != 200:
                    return False
    except httpx.HTTPError:
        return False
    return True


async def _shows_another(running: RunningGateway, context: ssl.SSLContext, first: bytes) -> bool:
    """Whether new connections get another certificate."""
    return await shown_certificate(running, context) != first


@pytest.mark.parametrize("workers", [1, 2])
async def test_u30_a_refused_credential_has_its_file_read_again_at_once_and_once(
    gateway: Callable[..., RunningGateway], tmp_path: Path, workers: int
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sk-old-0123456789abcdef")
    secret.chmod(0o600)
    async with FaultUpstream() as up:
        up.on(lambda request: request.header("authorization") != "Bearer sk-new-0123456789abcdef", status(401, "unknown key"))
        yaml = f"""
store: redis://127.0.0.1:1/0
providers: {{ up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "file:{secret}" }} }}
models: {{ m: up/mock }}
"""
        running = await asyncio.to_thread(gateway, yaml, None, ("--workers", str(workers)))
        await asyncio.to_thread(running.wait_ready)
        assert await _looks(running) == 0
        for _ in range(20 * workers):
            assert (await ask(port(running), chat(max_tokens=1))).status in (502, 503)
        await until(lambda: _has_looked(running))
        assert await _looks(running) <= workers  # not once a call
        secret.write_text("sk-new-0123456789abcdef")
        await until(lambda: _is_served(running))


async def _looks(running: RunningGateway) -> int:
    """How often the files were read and found as they were."""
    lines = (await admin(running, "/metrics")).text.splitlines()
    return int(next((float(line.split()[-1]) for line in lines if line.startswith('lockgate_config_reloads_total{outcome="unchanged"')), 0))


async def _has_looked(running: RunningGateway) -> bool:
    return await _looks(running) > 0


async def _is_served(running: RunningGateway) -> bool:
    return [(await ask(port(running), chat(max_tokens=1))).status for _ in range(5)] == [200] * 5
