"""A caller's time limit that a provider applies: the gateway does not apply it again, and treats the 429 at its end as a timeout."""

from __future__ import annotations

import json

import httpx
import pytest

from gateway.attempts.prepare import timeout_of_target
from gateway.call import Call
from providers.base import Failure
from tests.faults.chat_script import answer_as_openai
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.flows.live import live
from tests.providers.adapting import target_for
from tests.support.each import each

LIMIT_S = 0.3


def configuration(up: FaultUpstream, *, forwards: bool) -> str:
    provider = {"type": "friendli", "base_url": up.base_url, "api_key": "${KEY}", "forward_timeout": forwards}
    return json.dumps({"providers": {"up": provider}, "models": {"m": "up/a"}})


async def ask(client: httpx.AsyncClient, url: str) -> httpx.Response:
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": "m", "messages": messages, "timeout_microseconds": int(LIMIT_S * 1e6)}
    return await client.post(url + "/chat/completions", json=body)


@pytest.mark.parametrize(("forwards", "status"), [(True, 200), (False, 504)])
async def test_only_one_side_applies_the_limit(up: FaultUpstream, client: httpx.AsyncClient, forwards: bool, status: int) -> None:
    async def late(exchange: Exchange) -> None:
        await exchange.sleep(2.5 * LIMIT_S)
        await answer_as_openai(exchange)

    up.on("/v1/chat/completions", late)
    async with live(configuration(up, forwards=forwards), environ={"KEY": "sk-upstream"}) as gateway:
        assert (await ask(client, gateway.base_url)).status_code == status
    assert ("timeout_microseconds" in up.requests[0].json) is forwards


@each(
    ("forwards", "elapsed_s", "retry_after", "kind"),
    [
        (True, 0.3, None, "timeout"),
        (True, 0.28, None, "timeout"),
        (True, 0.1, None, "rate_limit"),
        (True, 0.3, 5.0, "rate_limit"),
        (False, 0.3, None, "rate_limit"),
    ],
)
def test_a_429_at_the_end_of_a_forwarded_limit_is_a_timeout(
    forwards: bool, elapsed_s: float, retry_after: float | None, kind: str
) -> None:
    call = Call("chat", "/v1/chat/completions")
    call.deadline = LIMIT_S
    target = target_for("friendli", forward_timeout=forwards)
    failure = timeout_of_target(Failure("rate_limit", "m", 429, retry_after=retry_after), call, target, elapsed_s)
    assert (failure.kind, failure.status) == (kind, 504 if kind == "timeout" else 429)


def test_without_a_limit_a_429_is_a_rate_limit() -> None:
    target = target_for("friendli", forward_timeout=True)
    failure = Failure("rate_limit", "m", 429)
    assert timeout_of_target(failure, Call("chat", "/v1/chat/completions"), target, 1e6) is failure
