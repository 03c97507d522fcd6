"""GET /v1/key: the information that the holder of a key gets, tested through the whole application."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import CREDENTIAL, one_model, post_chat, serving
from tests.flows.live import Live, live
from tests.flows.operator import KEYED, Operator, bearer, digest

TOKEN = "lg-own-0123456789abcdef"
REST = f"""
teams:
  search: {{ limits: {{ tokens: 1M/min }} }}
keys:
  app:
    hash: "{digest(TOKEN)}"
    team: search
    models: {{ m: {{ limits: {{ requests: 5/h }} }} }}
    limits: {{ requests: 10/h, spend: 2 USD/month }}
    expires: 2099-12-31
"""


def priced(up: FaultUpstream, rest: str) -> AbstractAsyncContextManager[Live]:
    """Serve one model that has a price."""
    yaml = one_model(up, rest).replace("api_key:", "prices: { mock: { prompt: 10, output: 100 } }, api_key:")
    return live(yaml, environ={"UP_KEY": CREDENTIAL})


@pytest.mark.parametrize("path", ["/v1/key", "/key", "/openai/v1/key"])
async def test_the_holder_of_a_key_sees_what_it_allows_and_what_is_left(
    up: FaultUpstream, client: httpx.AsyncClient, path: str
) -> None:
    async with priced(up, REST) as gateway:
        assert (await post_chat(client, gateway, headers=bearer(TOKEN))).status_code == 200
        answer = await client.get(gateway.url + path, headers=bearer(TOKEN))
    shown = answer.json()
    assert {name: shown[name] for name in ("object", "name", "team", "models", "expires", "strict")} == {
        "object": "key", "name": "app", "team": "search", "models": ["m"], "expires": "2100-01-01T00:00:00Z", "strict": False,
    }  # fmt: skip
    states = {(state["owner"], state["kind"], state["model"]): state for state in shown["limits"]}
    assert (states["key", "requests", None]["used"], states["key", "requests", None]["remaining"]) == (1, 9)
    assert states["key", "requests", "m"]["remaining"] == 4
    assert states["team", "tokens", None]["used"] > 0
    assert states["key", "spend", None]["used"] > 0
    assert answer.headers["cache-control"] == "no-store"
    assert digest(TOKEN).removeprefix("sha256:") not in answer.text
    assert TOKEN not in answer.text


async def test_without_a_valid_key_nothing_is_shown(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with priced(up, REST) as gateway:
        assert (await client.get(f"{gateway.url}/v1/key")).status_code == 401
        assert (await client.get(f"{gateway.url}/v1/key", headers=bearer("lg-wrong"))).status_code == 401


async def test_a_gateway_without_keys_answers_without_a_name(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        shown = (await client.get(f"{gateway.url}/v1/key")).json()
    assert (shown["name"], shown["models"], shown["limits"]) == (None, None, [])


async def test_a_rotated_key_keeps_its_counts_under_both_secrets(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with priced(up, REST + KEYED) as gateway:
        operator = Operator(client, gateway)
        old = await operator.make("made", limits={"requests": "3/h"})
        await operator.call(old)
        new = (await operator.ask("POST", "/made/rotate")).json()["key"]
        assert [(await operator.call(token)).status_code for token in (new, old, new)] == [200, 200, 429]
        shown = [(await client.get(f"{gateway.url}/v1/key", headers=bearer(token))).json() for token in (old, new)]
        assert [key["limits"][0]["remaining"] for key in shown] == [0, 0]
        assert shown[0]["expires"] is not None
        assert shown[1]["expires"] is None


