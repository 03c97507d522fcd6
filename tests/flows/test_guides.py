"""The configurations in docs/guides behave as described. Scripted upstreams take the place of the providers."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from benchmarks.ports import free_port
from tests.faults.behaviours import status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import post_chat
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest
from tests.support.issuer import TokenIssuer

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
KEY = "lg-0123456789abcdef0123456789abcdef"
NEW_KEY = "lg-fedcba9876543210fedcba9876543210"
ENVIRON = {"OPENAI_API_KEY": "sk-0123456789"}


def configuration(guide: str, index: int = 0) -> str:
    """Return one YAML block of a guide."""
    return re.findall(r"```yaml\n(.*?)```", (GUIDES / f"{guide}.md").read_text(), re.DOTALL)[index]


async def call(client: httpx.AsyncClient, gateway: Live, model: str, max_tokens: int = 8, key: str = KEY) -> httpx.Response:
    """Send one chat call."""
    return await post_chat(client, gateway, model, headers=bearer(key), max_tokens=max_tokens)


async def test_fallback_guide_answers_from_the_second_target_and_skips_the_first_after_two_failures(
    other: FaultUpstream, client: httpx.AsyncClient
) -> None:
    text = configuration("fallback").replace("http://127.0.0.1:9911/v1", f"http://127.0.0.1:{free_port()}/v1")
    text = text.replace("local: {}", f"local: {{ type: openai-compatible, base_url: '{other.base_url}' }}")
    async with live(text) as gateway:
        answers = [await call(client, gateway, "smart") for _ in range(3)]
        assert [answer.headers["x-gateway-attempts"] for answer in answers] == ["2", "2", "1"]
        assert {answer.headers["x-gateway-target"] for answer in answers} == {"local/smollm2-135m-instruct"}
        assert (await gateway.records(3))[0]["attempts"][0]["outcome"] == "connect"


def team_budget(up: FaultUpstream) -> str:
    """Return the configuration of the guide, with the key and the upstream of the test."""
    secret = 'api_key: "${OPENAI_API_KEY}"'
    text = configuration("team-budget").replace(secret, f"{secret}, base_url: '{up.base_url}'")
    return re.sub(r'(search-app:\n    hash: )"[^"]*"', rf'\1"{digest(KEY)}"', text)


async def test_team_budget_guide_rejects_a_call_that_costs_more_than_the_budget(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    text = team_budget(up)
    async with live(text.replace("500 USD/month", "0.005 USD/month"), environ=ENVIRON, watch=True) as gateway:
        refused = await call(client, gateway, "gpt-4o-mini", 16384)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert refused.headers["x-should-retry"] == "false"
        assert up.requests == []
        assert (await call(client, gateway, "gpt-4o-mini", 100)).status_code == 200
        gateway.path.write_text(text)
        await eventually(lambda: gateway.gateway.generation.number == 2)
        assert (await call(client, gateway, "gpt-4o-mini", 16384)).status_code == 200


async def test_rotation_guide_replaces_a_virtual_key_without_a_gap(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    old = team_budget(up)
    both = old + f'  search-app-2: {{ hash: "{digest(NEW_KEY)}", team: search, limits: {{ requests: 60/min }} }}\n'
    new = re.sub(r"  search-app:\n(    .*\n)+", "", both)
    async with live(old, environ=ENVIRON, watch=True) as gateway:
        for generation, text in ((2, both), (3, new)):
            gateway.path.write_text(text)
            await eventually(lambda expected=generation: gateway.gateway.generation.number == expected)  # type: ignore[misc]
            assert (await call(client, gateway, "gpt-4o-mini", key=NEW_KEY)).status_code == 200
        refused = await call(client, gateway, "gpt-4o-mini", key=KEY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_rotation_guide_ends_the_cooldown_of_a_rejected_credential(
    up: FaultUpstream, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    secret = tmp_path / "openai.key"
    secret.write_text("sk-old-0123456789")
    secret.chmod(0o600)
    text = configuration("rotate-a-key").replace('"file:openai.key"', f"'file:{secret}', base_url: '{up.base_url}'")
    up.on(lambda request: "sk-old" in dict(request.headers).get("authorization", ""), status(401))
    async with live(text, watch=True) as gateway:
        refused = await call(client, gateway, "gpt-4o-mini")
        assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_auth_error")
        draft = tmp_path / "openai.key.new"
        draft.write_text("sk-new-0123456789")
        draft.chmod(0o600)
        draft.replace(secret)
        await eventually(lambda: gateway.gateway.generation.number == 2)
        assert (await call(client, gateway, "gpt-4o-mini")).status_code == 200


async def test_openid_provider_guide_accepts_tokens_under_policies_and_a_team(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    secret = 'api_key: "${OPENAI_API_KEY}"'
    text = configuration("openid-provider").replace(secret, f"{secret}, base_url: '{up.base_url}'")
    async with TokenIssuer() as issuer:
        issuer.add_key("k1", "RS256")
        text = text.replace("https://login.example.com/realms/staff", issuer.url).replace("0.0.0.0:8080", "127.0.0.1:0")
        claims = {"email": "alice@example.com", "department": "search"}
        async with live(text, environ=ENVIRON) as gateway:
            engineer = issuer.token(**claims, realm_access={"roles": ["ml-engineer"]})
            assert (await call(client, gateway, "gpt-4o", key=engineer)).status_code == 200
            other = issuer.token(**{**claims, "sub": "bob"})
            statuses = [(await call(client, gateway, model, key=other)).status_code for model in ("gpt-4o", "gpt-4o-mini")]
            assert statuses == [403, 200]
            shown = (await client.get(f"{gateway.base_url}/key", headers=bearer(engineer))).json()
            assert (shown["name"], shown["team"], shown["policy"], shown["end_user"]) == (
                "staff/alice", "search", "ml-engineer", "alice@example.com",
            )  # fmt: skip
            assert [(limit["owner"], limit["limit"]) for limit in shown["limits"]] == [("key", 20.0), ("team", 500.0)]
            for department, code in (("unknown", "team_unknown"), (None, "invalid_token")):
                refused = await call(client, gateway, "gpt-4o-mini", key=issuer.token(**{**claims, "department": department}))
                assert refused.json()["error"]["code"] == code
