"""Discovered models through the whole gateway: calls, the list of models, keys, routes, metrics and reload."""

from __future__ import annotations

from pathlib import Path

import httpx
from click.testing import CliRunner

from gateway.commands.route import route
from tests.faults.upstream_server import FaultUpstream, closed_base_url, status
from tests.flows.conftest import post_chat
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest
from tests.targets.test_discovery import listing

TOKEN = "sk-the-callers-own-key-0123456789"


def box(up: str, discover: str = "{every: 20ms}", rest: str = "") -> str:
    """Return a configuration with a provider `box` at this base URL."""
    return f"providers: {{box: {{type: vllm, base_url: '{up}', discover: {discover}}}}}\nmodels: {{m: box/a}}\n{rest}"


async def listed(client: httpx.AsyncClient, gateway: Live, **headers: str) -> list[str]:
    """Return the names in `/v1/models`."""
    answer = await client.get(gateway.base_url + "/models", headers=headers)
    return [model["id"] for model in answer.json()["data"]]


async def test_listed_models_are_callable_and_follow_the_list(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/models", listing("a", "org/b"))
    async with live(box(up.base_url)) as gateway:
        assert await listed(client, gateway) == ["m", "box/a", "box/org/b"]
        assert (await post_chat(client, gateway, "box/org/b")).status_code == 200
        assert (await client.get(gateway.base_url + "/models/box/org/b")).json()["targets"][0]["target"] == "box/org/b"
        missing = await post_chat(client, gateway, "box/c")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        up.on("/v1/models", listing("c"))
        await eventually(lambda: "box/c" in gateway.gateway.generation.router.names())
        assert (await post_chat(client, gateway, "box/c")).status_code == 200
        assert (await post_chat(client, gateway, "box/org/b")).status_code == 404
        assert gateway.count("lockgate_requests", "box/c") == 1
        up.on("/v1/models", status(500))
        await eventually(lambda: gateway.gateway.discovery.states() == {("box",): 0.0})
        assert (await post_chat(client, gateway, "box/c")).status_code == 200
        plan = (await client.post(gateway.admin_url + "/admin/route", json={"model": "box/c", "n": 1})).json()
        scrape = (await client.get(gateway.admin_url + "/metrics")).text
    assert [request.model for request in up.requests if request.method == "POST"] == ["org/b", "c", "c"]
    assert (plan["found"], plan["route"]) == ("as a model that its provider lists (discover)", {"target": "box/c"})
    assert 'lockgate_discovered_models{provider="box"} 1' in scrape
    assert 'lockgate_discovery_up{provider="box"} 0' in scrape


async def test_the_models_of_a_key_apply_to_the_names_that_callers_send(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/models", listing("llama-1", "llama-2", "other"))
    keys = f"keys: {{k: {{hash: '{digest(TOKEN)}', models: ['b-llama-*']}}}}\n"
    async with live(box(up.base_url, "{as: 'b-*'}", keys)) as gateway:
        assert await listed(client, gateway, **bearer(TOKEN)) == ["b-llama-1", "b-llama-2"]
        for model, code in {"b-llama-2": 200, "b-other": 403, "m": 403}.items():
            assert (await post_chat(client, gateway, model, headers=bearer(TOKEN))).status_code == code


async def test_before_the_first_list_is_read_its_names_are_unavailable(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(box(closed_base_url())) as gateway:
        answer = await post_chat(client, gateway, "box/any")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "models_not_listed")
        assert int(answer.headers["retry-after"]) > 0
        up.on("/v1/models", listing("any"))
        gateway.path.write_text(box(up.base_url))
        assert await gateway.reloader.reload() == "applied"
        await eventually(lambda: "box/any" in gateway.gateway.generation.router.names())
        assert (await post_chat(client, gateway, "box/any")).status_code == 200
        gateway.path.write_text(box(up.base_url, "false"))
        assert await gateway.reloader.reload() == "applied"
        assert (await post_chat(client, gateway, "box/any")).status_code == 404


def test_a_dry_run_sends_no_request_and_says_what_it_assumes(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(box(closed_base_url()))
    shown = CliRunner().invoke(route, ["box/any", "-c", str(path)])
    assert shown.exit_code == 0, shown.output
    assert "as a model that its provider lists (discover); a dry run does not check this" in shown.output
