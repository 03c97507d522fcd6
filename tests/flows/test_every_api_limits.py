"""Limits, budgets, strict mode, caps and errors are the same in every API, with one key and one ledger."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.faults.behaviours import status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import chat, one_model, post_as, serving
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest
from tests.support.apis import ALL, ALL_CONVERSATIONS, ALL_WAYS, MESSAGES_API, Api, Told

TOKEN = "lg-a-0123456789abcdef"
STRICT = {"x-gateway-strict": "true"}
ENVIRON = {"UP_KEY": "sk-upstream-credential"}
EVERY_WAY = tuple((api, stream) for api in ALL for stream in (False, True))


def keys(limits: str) -> str:
    """Return a `keys` section with one key and its limits."""
    return f"keys:\n  team: {{ hash: '{digest(TOKEN)}', limits: {limits} }}\n"


async def call(client: httpx.AsyncClient, gateway: Live, api: Api, **more: Any) -> tuple[httpx.Response, Told]:
    """Send one call with the key. Return the response, and the answer that its caller reads."""
    headers = {**bearer(TOKEN), "x-gateway-receipt": "body", **more.pop("headers", {})}
    if more.get("stream"):
        more["stream_options"] = {"include_usage": True}
    answer = await post_as(api, client, gateway, headers=headers, **more)
    await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
    return answer, api.read(answer)


def error_of(told: Told) -> tuple[Any, Any]:
    """Return the code and the parameter of an error."""
    assert told.error is not None
    return told.error["code"], told.error["param"]


async def test_calls_of_every_api_use_up_one_request_limit(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, keys(f"{{ requests: {len(EVERY_WAY)}/h }}")) as gateway:
        for number, (api, stream) in enumerate(EVERY_WAY, 1):
            answer, told = await call(client, gateway, api, stream=stream)
            assert (answer.status_code, told.stop, told.text) == (200, "stop", "w0 w1 w2 w3 w4 "), api.name
            left = str(len(EVERY_WAY) - number)
            assert api.limit_header(answer, "remaining", "requests") == left, api.name
        for api, stream in EVERY_WAY:
            answer, told = await call(client, gateway, api, stream=stream)
            assert (answer.status_code, *error_of(told)) == (429, "rate_limit_exceeded", None), api.name
            assert told.error is not None
            assert "the key 'team'" in told.error["message"]
            assert 3000 < int(answer.headers["retry-after"]) <= 4000
    assert len(up.requests) == len(EVERY_WAY)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": "a fox and a river " * 20}),
        ("/v2/embed", {"texts": ["a fox and a river " * 20], "input_type": "search_query"}),
        ("/v1/rerank", {"query": "fox", "documents": ["a fox and a river " * 20]}),
        ("/v2/rerank", {"query": "fox", "documents": ["a fox and a river " * 20]}),
    ],
)
async def test_the_error_of_a_call_without_output_names_no_output_cap(
    up: FaultUpstream, client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    async with serving(up, keys("{ tokens: 20/min }")) as gateway:
        answer = await client.post(gateway.url + path, json={"model": "m", **body}, headers=bearer(TOKEN))
    assert answer.status_code == 429
    assert "This request alone exceeds the limit of 20 tokens per min for the key 'team'. Send less input." in answer.text


async def test_tokens_of_every_api_are_reserved_and_settled(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, keys("{ tokens: 100000/h }")) as gateway:
        used = 0
        for number, (api, stream) in enumerate(EVERY_WAY, 1):
            answer, told = await call(client, gateway, api, stream=stream, max_tokens=5000)
            left = int(api.limit_header(answer, "remaining", "tokens") or "")
            assert 100_000 - used - 5000 - 50 < left < 100_000 - used - 5000, api.name
            await eventually(lambda count=number: len(gateway.lines()) == count)  # type: ignore[misc]
            record = gateway.lines()[-1]
            assert told.tokens == (record["prompt_tokens"], record["output_tokens"], 0, 0, 0), api.name
            used += record["prompt_tokens"] + record["output_tokens"]
        answer, _ = await call(client, gateway, ALL[0], max_tokens=1)
        assert 100_000 - used - 50 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 100_000 - used


@pytest.mark.parametrize("strict", ["true", "false"])
async def test_earlier_turns_of_a_stored_conversation_are_reserved(up: FaultUpstream, client: httpx.AsyncClient, strict: str) -> None:
    async with serving(up, "store: memory://\n" + keys(f"{{ tokens: 10000/h, strict: {strict} }}")) as gateway:
        long = await client.post(gateway.url + "/v1/responses", headers=bearer(TOKEN), json={
            "model": "m", "input": "word " * 900, "store": True, "max_output_tokens": 5,
        })  # fmt: skip
        more = {"model": "m", "input": "on", "previous_response_id": long.json()["id"], "max_output_tokens": 5}
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        answer = await client.post(gateway.url + "/v1/responses", headers=bearer(TOKEN), json=more)
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 10_000 - 2 * 900


async def test_call_larger_than_a_limit_names_the_cap_of_its_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, keys("{ tokens: 1000/h }")) as gateway:
        for api, stream in EVERY_WAY:
            answer, told = await call(client, gateway, api, stream=stream, max_tokens=2000)
            assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false"), api.name
            assert told.error is not None
            assert f"Lower '{api.param('max_tokens')}'" in told.error["message"], api.name
    assert up.requests == []


async def test_every_api_spends_the_same_budget(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    budget = one_model(up, keys("{ spend: 0.01 USD/day }")).replace("api_key:", "prices: { mock: { prompt: 10, output: 100 } }, api_key:")
    async with live(budget, environ=ENVIRON) as gateway:
        costs = []
        for api, stream in EVERY_WAY:
            answer, told = await call(client, gateway, api, stream=stream, max_tokens=30)
            assert answer.status_code == 200, api.name
            assert told.receipt is not None
            costs.append(told.receipt["cost_usd"])
        assert costs == [costs[0]] * len(costs), costs
        for api, stream in EVERY_WAY:
            answer, told = await call(client, gateway, api, stream=stream, max_tokens=95)
            assert (answer.status_code, *error_of(told)) == (429, "insufficient_quota", None), api.name
            assert answer.headers["x-should-retry"] == "false"
        usage = (await client.get(gateway.admin_url + "/admin/usage")).json()
    assert usage["total"]["cost_usd"] == pytest.approx(sum(costs))


async def test_a_strict_limit_caps_the_output_of_every_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.chunks = 10_000
    top = "default_output_tokens: 20\n" + keys("{ tokens: 3000/h, strict: true }")
    async with serving(up, top) as gateway:
        for api, stream in EVERY_WAY:
            up.requests.clear()
            answer, told = await call(client, gateway, api, stream=stream)
            assert (answer.status_code, told.stop) == (200, "length"), api.name
            cap = 50 if api is MESSAGES_API else 20  # a Messages request always states a cap
            assert up.requests[0].json["max_tokens"] == cap, api.name
            assert told.receipt is not None
            told_cap = [each["to"] for each in told.receipt["adjustments"] if each["action"] == "set_default" and each.get("to") == 20]
            assert told_cap == ([20] if cap == 20 else []), api.name
        picture = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
        for api, stream in ALL_WAYS:
            answer, told = await call(client, gateway, api, stream=stream, messages=[{"role": "user", "content": picture}])
            assert answer.status_code == 429, (api.name, told.text)  # the upper bound of an unread image exceeds the limit


LOSSY: tuple[dict[str, Any], ...] = ({"reasoning_effort": "low"}, {"user": "u"}, {"service_tier": "flex"}, {"top_k": 3})


async def test_strict_mode_refuses_in_every_api_what_a_receipt_reports_otherwise(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind="siati") as gateway:
        for more in LOSSY:
            (name,) = more
            outcomes = []
            for api, stream in ALL_WAYS:
                up.requests.clear()
                lenient, told = await call(client, gateway, api, stream=stream, **more)
                assert (lenient.status_code, len(up.requests)) == (200, 1), api.name
                assert told.receipt is not None
                actions = [each["action"] for each in told.receipt["adjustments"] if each["param"] == api.param(name)]
                strict, refused = await call(client, gateway, api, stream=stream, headers=STRICT, **more)
                if strict.status_code == 400:
                    assert (error_of(refused)[1], len(up.requests)) == (api.param(name), 1), api.name
                outcomes.append((strict.status_code, actions))
            assert outcomes == [outcomes[0]] * len(ALL_WAYS), name
            assert (outcomes[0][0] == 400) is bool({"drop", "downgrade"} & set(outcomes[0][1])), (name, outcomes[0])


async def test_streams_of_a_provider_without_usage_are_allowed_in_strict_mode(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind="goodfire") as gateway:
        for api in ALL_CONVERSATIONS:
            body = api.body(chat(stream=True))
            answer = await client.post(gateway.url + api.path, json=body, headers={**STRICT, "x-gateway-receipt": "body"})
            told = api.read(answer)
            assert (answer.status_code, told.stop) == (200, "stop"), (api.name, told.error)
            assert told.receipt is not None
            assert "stream" not in {each["param"] for each in told.receipt["adjustments"]}, api.name


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422, 429, 500, 503, 529])
async def test_errors_of_the_upstream_are_the_same_in_every_api(up: FaultUpstream, client: httpx.AsyncClient, code: int) -> None:
    up.on(lambda request: True, status(code, "said so", param="temperature"))
    async with serving(up) as gateway:
        outcomes = []
        for api, stream in ALL_WAYS:
            answer, told = await call(client, gateway, api, stream=stream)
            assert told.error is not None
            assert told.receipt is not None
            outcomes.append((answer.status_code, told.error["code"], told.error["param"], told.receipt["target"]))
    assert outcomes[0][0] >= 400
    assert outcomes == [outcomes[0]] * len(ALL_WAYS), outcomes


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"temperature": "hot"}, "temperature"), ({"max_tokens": -1}, "max_tokens"), ({"stop": [1]}, "stop[0]"),
    ({"model": "absent"}, "model"), ({"top_p": "x"}, "top_p"),
)  # fmt: skip


async def test_bad_requests_are_refused_with_the_name_of_each_api(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        for more, param in BAD:
            for api, stream in ALL_WAYS:
                answer, told = await call(client, gateway, api, stream=stream, **more)
                first, bracket, rest = param.partition("[")
                name = api.param(first) + bracket + rest
                expected = 404 if param == "model" else 400
                assert (answer.status_code, error_of(told)[1]) == (expected, name), (api.name, told.error)
                assert told.error is not None
                assert "Traceback" not in answer.text
    assert up.requests == []
