"""Keys of one team, called through the gateway."""

from __future__ import annotations

import hashlib

import httpx

from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, serving

DIGESTS = {name: hashlib.sha256(f"lg-{name}-key".encode()).hexdigest() for name in "ab"}


async def test_the_keys_of_a_team_share_its_limit(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    rest = "teams: {search: {limits: {requests: 3/h}}}\nkeys:\n" + "".join(
        f"  {name}: {{hash: 'sha256:{digest}', team: search, limits: {{requests: 2/h}}}}\n" for name, digest in DIGESTS.items()
    )
    async with serving(up, rest) as gateway:

        async def call(name: str) -> httpx.Response:
            headers = {"authorization": f"Bearer lg-{name}-key"}
            return await client.post(gateway.base_url + "/chat/completions", headers=headers, json=chat())

        answers = [await call(name) for name in "aaabb"]
        assert [one.status_code for one in answers] == [200, 200, 429, 200, 429]
        assert "the key 'a'" in answers[2].json()["error"]["message"]
        assert "the team 'search'" in answers[4].json()["error"]["message"]
        assert gateway.count("lockgate_limit_decisions", "team", "requests", "refused") == 1
