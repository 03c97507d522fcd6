"""Scripted incidents: `lockgate calls` shows why a call was slow, why a call was refused and what calls cost."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from gateway.commands.cli import run
from tests.faults.behaviours import status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, delayed, post_chat
from tests.flows.live import Live, live
from tests.flows.operator import bearer, digest

TOKEN = "lg-a-0123456789abcdef"
SLOW_S = 0.05


def configuration(up: FaultUpstream) -> str:
    """Return a configuration with a target that fails before the one that answers, and a key with a limit."""
    provider = f'{{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}"'
    return f"""
providers:
  a: {provider}, prices: {{ mock: {{ prompt: 10, output: 100 }} }} }}
  b: {provider}, prices: {{ mock: {{ prompt: 10, output: 100 }} }} }}
models:
  m: {{ targets: [a/mock, b/mock], retries: 0 }}
  priced: b/mock
teams:
  search: {{ limits: {{ spend: 5 USD/day }} }}
keys:
  app: {{ hash: '{digest(TOKEN)}', team: search, limits: {{ requests: 2/min }} }}
"""


async def asked(gateway: Live, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Return the output of `lockgate calls`."""
    capsys.readouterr()
    code = await asyncio.to_thread(run, ["calls", *args, "--admin", gateway.admin_url])
    out = capsys.readouterr()
    assert code == 0, out.err
    return out.out


async def test_calls_of_an_incident_are_explained(
    up: FaultUpstream, client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    async with live(configuration(up), environ={"UP_KEY": CREDENTIAL}) as gateway:
        up.once(status(500, "out of order"))
        up.once(delayed(SLOW_S))
        slow = await post_chat(client, gateway, headers=bearer(TOKEN), user="u-7", text="a secret plan")
        priced = await post_chat(client, gateway, "priced", headers=bearer(TOKEN))
        refused = await post_chat(client, gateway, "priced", headers=bearer(TOKEN), user="u-8")
        assert [answer.status_code for answer in (slow, priced, refused)] == [200, 200, 429]
        ids = [answer.headers["x-request-id"] for answer in (slow, priced, refused)]

        # why was it slow?
        found = json.loads(await asked(gateway, capsys, "--slow", f"{SLOW_S * 1000:.0f}ms", "--user", "u-7", "--json"))
        assert [call["id"] for call in found["data"]] == ids[:1]
        text = await asked(gateway, capsys, ids[0])
        assert [f"{name}" in text for name in ("a/mock: 500", "b/mock: ok", "first byte to the caller")] == [True] * 3
        first, second = found["data"][0]["attempts"]
        assert first["sent_ms"] + first["ms"] <= second["sent_ms"] + 0.02
        assert second["sent_ms"] + SLOW_S * 1000 <= second["head_ms"] <= found["data"][0]["ms"]

        # how much of its limits was used?
        states = {state["limit"]: state for state in found["data"][0]["limits"]}
        assert (states["2 requests per min"]["used"], states["2 requests per min"]["owner"]) == (1, "key:app")
        assert 0 < states["5 USD per day"]["used"] < 5
        assert "limit 2 requests per min for key:app: 1 of 2 used" in " ".join(text.split())

        # why was it refused?
        assert ids[2] in await asked(gateway, capsys, "--status", "429", "--key", "app", "--since", "1d")
        text = await asked(gateway, capsys, ids[2])
        assert "2 requests per min" in text
        assert "refused by 2 requests per min for key:app: 2 of 2 used, free again after" in text
        (shown,) = json.loads(await asked(gateway, capsys, "--status", "429", "--json"))["data"]
        states = {state["limit"]: state for state in shown["limits"]}
        budget = states["5 USD per day"]
        assert (budget["owner"], budget["amount"], budget["reserved"]) == ("team:search", 5.0, 0.0)
        assert (shown["end_user"], "refused" in budget) == ("u-8", False)

        # what did it cost?
        found = json.loads(await asked(gateway, capsys, "--team", "search", "--cost", "--json"))
        costs = [call.get("cost_usd") for call in found["data"]]
        assert found["total"]["calls"] == 3
        assert costs[0] > 0
        assert budget["used"] == pytest.approx(found["total"]["cost_usd"])
        assert found["total"]["cost_usd"] == pytest.approx(sum(cost or 0 for cost in costs))
        usage = (await client.get(f"{gateway.admin_url}/admin/usage?by=team")).json()
        assert round(found["total"]["cost_usd"] * 1e9) == usage["total"]["cost_nanodollars"]

        # the targets of failed attempts are found, and nothing of the content is kept
        assert ids[0] in await asked(gateway, capsys, "--target", "a/mock")
        assert "secret plan" not in await asked(gateway, capsys, "--json")


async def test_a_call_that_limits_of_its_target_refuse_names_them_and_its_end_user(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    text = f"""
providers:
  a: {{ type: openai-compatible, base_url: "{up.base_url}", limits: {{ requests: 1/min }} }}
models: {{ m: a/mock }}
"""
    async with live(text) as gateway:
        await post_chat(client, gateway)
        assert (await post_chat(client, gateway, user="u-9")).status_code == 429
        await post_chat(client, gateway, "unknown", user="u-10")
        admitted, refused, unknown = await gateway.records(3)
    (state,) = refused["limits"]
    assert (state["limit"], state["owner"], state["used"], state["refused"]) == ("1 request per min", "provider:a", 1, True)
    assert "limits" not in admitted
    assert (refused["end_user"], unknown["end_user"], unknown["status"]) == ("u-9", "u-10", 404)
