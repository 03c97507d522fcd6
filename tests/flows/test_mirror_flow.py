"""Mirrored calls: the requests that the mirror receives, and callers that the mirror never affects."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest

from benchmarks.ports import free_port
from tests.faults.client import CHAT_PATH
from tests.faults.upstream_server import HANG, RST, FaultUpstream, play, status
from tests.flows.conftest import events, held, post_chat
from tests.flows.live import Live, eventually, live


def mirror_config(up: FaultUpstream, mirror: str, rest: str = "", mirror_url: str | None = None) -> str:
    """Return a configuration with the model `m` at up/main and a mirror. The provider `other` has its own credential and prices."""
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  other:
    type: openai-compatible
    base_url: "{mirror_url or up.base_url}"
    api_key: "${{OTHER_KEY}}"
    prices: {{ shadow: {{ prompt: 1, output: 2 }} }}
models:
  m: {{ targets: up/main, mirror: {mirror} }}
{rest}"""


ENVIRON = {"UP_KEY": "sk-of-the-main-target", "OTHER_KEY": "sk-of-the-mirror"}


async def ask(client: httpx.AsyncClient, gateway: Live, **more: Any) -> httpx.Response:
    """Send one call."""
    return await post_chat(client, gateway, **more)


def mirrored_requests(up: FaultUpstream) -> list[Any]:
    """Return the requests that the mirror received."""
    return [request for request in up.requests if request.model not in ("main", "m")]


@pytest.mark.parametrize("stream", [False, True])
async def test_mirror_receives_the_same_request_with_its_own_credential(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    async with live(mirror_config(up, "other/shadow"), environ=ENVIRON) as gateway:
        answer = await ask(client, gateway, stream=stream, temperature=0.5, seed=7)
        await eventually(lambda: gateway.count("lockgate_mirrors", "other/shadow", "ok") == 1)
        records = await gateway.records(2)
        assert gateway.count("lockgate_requests") == 1
        assert gateway.count("lockgate_mirror_tokens", "other/shadow", "output") == 5
        prompt = gateway.count("lockgate_mirror_tokens", "other/shadow", "prompt")
        assert prompt > 0
        assert gateway.count("lockgate_mirror_cost_usd", "other/shadow") == prompt * 1000 + 5 * 2000  # nano-dollars
        assert gateway.count("lockgate_tokens", "other/shadow") == 0
    assert answer.status_code == 200
    assert answer.headers["x-gateway-target"] == "up/main"
    assert answer.headers["x-gateway-attempts"] == "1"
    assert "shadow" not in answer.text
    main, shadow = sorted(up.requests, key=lambda request: str(request.model))
    assert {**main.json, "model": "shadow"} == shadow.json
    assert dict(main.headers)["authorization"] == "Bearer sk-of-the-main-target"
    assert dict(shadow.headers)["authorization"] == "Bearer sk-of-the-mirror"
    mirror_record = next(record for record in records if "mirror_of" in record)
    call_record = next(record for record in records if "mirror_of" not in record)
    assert (mirror_record["mirror_of"], mirror_record["target"], mirror_record["key"]) == (call_record["id"], "other/shadow", None)


async def test_hanging_mirror_times_out_without_delaying_callers(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: request.model == "shadow", play(HANG))
    async with live(mirror_config(up, "{ target: other/shadow, timeout: 700ms, max_concurrent: 2 }"), environ=ENVIRON) as gateway:
        began = time.monotonic()
        for _ in range(5):
            assert (await ask(client, gateway)).status_code == 200
        skipped = gateway.count("lockgate_mirrors", "skipped")
        assert skipped == 3 or time.monotonic() - began > 0.7  # unless a mirrored call has timed out before the last call
        await eventually(lambda: gateway.count("lockgate_mirrors", "timeout") == 5 - skipped)
        await eventually(lambda: all(request.link.closed for request in mirrored_requests(up)))
        assert gateway.count("lockgate_attempts", "other/shadow", "timeout") == 5 - skipped


async def test_mirror_that_hangs_is_in_cooldown_like_any_target(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    """Its own timeout is more than half of the model's, so a copy without an answer counts as a slow failure."""
    up.on(lambda request: request.model == "shadow", play(HANG))
    model = "  shadowed: { targets: other/shadow, timeout: 1s }"
    async with live(mirror_config(up, "{ target: shadowed, timeout: 700ms }", model), environ=ENVIRON) as gateway:
        for _ in range(5):
            assert (await ask(client, gateway)).status_code == 200
        await eventually(lambda: gateway.count("lockgate_mirrors", "timeout") == 5)
        assert gateway.count("lockgate_upstream_errors", "other/shadow", "timeout") == 5
        assert gateway.count("lockgate_cooldowns", "other/shadow", "failures") == 1
        await ask(client, gateway)
        await eventually(lambda: gateway.count("lockgate_mirrors") == 6)
        assert len(mirrored_requests(up)) == 5


@pytest.mark.parametrize("fault", ["500", "rst", "closed port", "unknown model"])
async def test_mirror_failure_does_not_affect_the_caller(up: FaultUpstream, client: httpx.AsyncClient, fault: str) -> None:
    up.on(lambda request: request.model == "shadow", {"500": status(500), "rst": play(RST)}.get(fault, status(404)))
    url = f"http://127.0.0.1:{free_port()}/v1" if fault == "closed port" else None
    async with live(mirror_config(up, "other/shadow", mirror_url=url), environ=ENVIRON) as gateway:
        answer = await ask(client, gateway, stream=True)
        await eventually(lambda: gateway.count("lockgate_mirrors") == 1)
        assert gateway.count("lockgate_mirrors", "ok") == 0
        assert gateway.count("lockgate_attempts", "other/shadow") == gateway.count("lockgate_upstream_errors", "other/shadow") == 1
        assert gateway.count("lockgate_internal_errors") == 0
    assert events(answer.text)[-1] == "[DONE]"


async def test_mirror_share_is_sampled(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(mirror_config(up, "{ target: other/shadow, share: 30% }"), environ=ENVIRON) as gateway:
        for _ in range(50):
            await ask(client, gateway)
        await eventually(lambda: gateway.count("lockgate_mirrors") == len(mirrored_requests(up)))
    assert 2 <= len(mirrored_requests(up)) <= 32  # 15 expected, standard deviation 3.2


async def test_mirror_may_be_a_model_and_is_not_mirrored_again(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    rest = "  shadows: { targets: { other/shadow: 1 }, mirror: other/echo }\n"
    async with live(mirror_config(up, "shadows", rest), environ=ENVIRON) as gateway:
        await ask(client, gateway)
        await eventually(lambda: gateway.count("lockgate_mirrors", "other/shadow", "ok") == 1)
        await gateway.records(2)
    assert [request.model for request in mirrored_requests(up)] == ["shadow"]


async def test_mirrored_call_is_not_charged_to_limits_and_a_rejected_call_is_not_mirrored(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    yaml = mirror_config(up, "other/shadow").replace("targets: up/main,", "targets: up/main, limits: { requests: 2/min },")
    async with live(yaml, environ=ENVIRON) as gateway:
        answers = [(await ask(client, gateway)).status_code for _ in range(4)]
        rejected = await ask(client, gateway, temperature="hot")
        await eventually(lambda: gateway.count("lockgate_mirrors", "ok") == 2)
    assert answers == [200, 200, 429, 429]
    assert rejected.status_code == 400
    assert len(mirrored_requests(up)) == 2


async def test_mirror_respects_the_limits_of_its_provider(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = mirror_config(up, "other/shadow").replace("    prices:", "    limits: { requests: 1/min }\n    prices:")
    async with live(yaml, environ=ENVIRON) as gateway:
        for _ in range(3):
            assert (await ask(client, gateway)).status_code == 200
        await eventually(lambda: gateway.count("lockgate_mirrors") == 3)
        assert gateway.count("lockgate_mirrors", "rate_limit") == 2
        assert gateway.count("lockgate_upstream_errors") == 0
        copies = [record for record in await gateway.records(6) if "mirror_of" in record]
    assert sorted(copy["attempts"][0]["outcome"] for copy in copies) == ["limit", "limit", "ok"]
    assert len(mirrored_requests(up)) == 1


async def test_shutdown_cancels_mirrored_calls(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: request.model == "shadow", play(HANG))
    async with live(mirror_config(up, "other/shadow"), environ=ENVIRON) as gateway:
        await ask(client, gateway)
        await eventually(lambda: len(mirrored_requests(up)) == 1)
    assert gateway.count("lockgate_mirrors", "cancelled") == 1
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "mirror"]


async def test_mirror_of_a_strict_call_is_not_strict(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = mirror_config(up, "other/shadow").replace("    type: openai-compatible", "    type: groq")
    async with live(yaml, environ=ENVIRON) as gateway:
        answer = await post_chat(client, gateway, logit_bias={"5": 1}, headers={"x-gateway-strict": "true"})
        await eventually(lambda: gateway.count("lockgate_mirrors", "ok") == 1)
    assert answer.status_code == 200
    assert "logit_bias" not in json.loads(mirrored_requests(up)[0].body)


async def test_a_copy_in_flight_keeps_its_connection_across_a_reload(client: httpx.AsyncClient) -> None:
    async with FaultUpstream() as up, FaultUpstream() as shadow:
        release = asyncio.Event()
        shadow.on(CHAT_PATH, held(release))
        text = f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}" }}
  shadow: {{ type: openai-compatible, base_url: "{shadow.base_url}", transport: httpx, max_connections: 10 }}
models: {{ m: {{ targets: up/a, mirror: {{ target: shadow/b, share: 100% }} }} }}
"""
        async with live(text) as gateway:
            assert (await post_chat(client, gateway, "m")).status_code == 200
            await eventually(lambda: len(shadow.requests) == 1)
            gateway.path.write_text(text.replace("10 }", "11 }"))
            assert await gateway.reloader.reload() == "applied"
            release.set()
            await eventually(lambda: gateway.count("lockgate_mirrors") == 1)
            assert gateway.count("lockgate_mirrors", "ok") == 1
            assert gateway.gateway.health.all()[1].failures == 0
            await eventually(lambda: not gateway.gateway._replaced)
