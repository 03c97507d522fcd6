"""Limits of a team apply to all its keys."""

from __future__ import annotations

import httpx

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import post_chat, serving
from tests.flows.operator import bearer, digest

TOKENS = {name: f"lg-{name}-key" for name in "ab"}


async def test_keys_of_a_team_share_its_limit(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    rest = "teams: {search: {limits: {requests: 3/h}}}\nkeys:\n" + "".join(
        f"  {name}: {{hash: '{digest(token)}', team: search, limits: {{requests: 2/h}}}}\n" for name, token in TOKENS.items()
    )
    async with serving(up, rest) as gateway:

        async def call(name: str) -> httpx.Response:
            return await post_chat(client, gateway, headers=bearer(TOKENS[name]))

        answers = [await call(name) for name in "aaabb"]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 200, 429]
        assert "the key 'a'" in answers[2].json()["error"]["message"]
        assert "the team 'search'" in answers[4].json()["error"]["message"]
        assert gateway.count("lockgate_limit_decisions", "team", "requests", "refused") == 1
