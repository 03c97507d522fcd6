"""A request that one target cannot answer goes to the next one, in every API, as JSON and as a stream."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import canned, chat_chunk, sse, status
from tests.faults.upstream_server import Exchange, FaultUpstream, Script
from tests.flows.conftest import CREDENTIAL, RECEIPT, post_as, post_chat
from tests.flows.live import Live, live
from tests.support.apis import WAYS, Api, Told

ENVIRON = {"UP_KEY": CREDENTIAL}
WORDS = "w0 w1 w2 w3 w4 "
GONE = status(404, "The model `one` does not exist or you do not have access to it.", code="model_not_found")
FILTERED = status(400, "The prompt was filtered", code="content_filter", type="invalid_request_error")
OVERFLOW = status(400, "This model's maximum context length is 10 tokens.", code="context_length_exceeded")
TOO_LARGE = status(413, "Request exceeds the maximum size", type="request_too_large")
NO_PATH = canned(b"404 page not found", 404, {"content-type": "text/plain"})
INVALID = status(400, "'x' is too odd", param="x", code="odd", type="invalid_request_error")


def targets(up: FaultUpstream, *models: str, settings: str = "", kind: str = "vllm", **providers: str) -> str:
    """Return a configuration whose model `m` is an order of these targets, such as `a/one`."""
    names = dict.fromkeys(model.partition("/")[0] for model in models)
    entries = [
        f'{name}: {{ type: {kind}, base_url: "{up.base_url}", api_key: "${{UP_KEY}}"{providers.get(name, "")} }}' for name in names
    ]
    return f"providers: {{ {', '.join(entries)} }}\nmodels: {{ m: {{ targets: [{', '.join(models)}]{settings} }} }}\n"


async def ask(client: httpx.AsyncClient, gateway: Live, api: Api, *, stream: bool) -> tuple[httpx.Response, Told]:
    """Send one call. Return the response, and the answer that its caller reads."""
    answer = await post_as(api, client, gateway, headers=RECEIPT, stream=stream)
    return answer, api.read(answer)


def fail_at(up: FaultUpstream, model: str, script: Script) -> None:
    """Answer requests for one model of the upstream with a script."""
    up.on(lambda request: request.model == model, script)


@pytest.mark.parametrize(
    ("script", "outcome"),
    [(GONE, "404"), (NO_PATH, "404"), (OVERFLOW, "400"), (TOO_LARGE, "413")],
    ids=["model", "path", "context", "size"],
)
async def test_next_target_answers_in_every_api(up: FaultUpstream, client: httpx.AsyncClient, script: Script, outcome: str) -> None:
    fail_at(up, "one", script)
    async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
        for api, stream in WAYS:
            answer, told = await ask(client, gateway, api, stream=stream)
            assert (answer.status_code, told.text, told.stop) == (200, WORDS, "stop"), api.name
            assert told.receipt is not None
            assert [each["outcome"] for each in told.receipt["attempts"]][-2:] in ([outcome, "ok"], ["ok"]), api.name


async def test_error_event_before_the_first_content_leads_to_the_next_target(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    error = {"message": "The model `one` does not exist", "code": "model_not_found", "type": "not_found_error"}
    fail_at(up, "one", sse({"error": error}))
    async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
        answer = await post_chat(client, gateway, stream=True)
        assert answer.headers["x-gateway-target"] == "b/two"
        assert gateway.count("lockgate_upstream_errors", "a/one", "model_not_found") == 1


async def test_target_without_its_model_is_in_cooldown_and_the_others_of_its_provider_are_not(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    fail_at(up, "one", GONE)
    async with live(targets(up, "a/one", "a/two"), environ=ENVIRON) as gateway:
        for _ in range(5):
            assert (await post_chat(client, gateway)).headers["x-gateway-target"] == "a/two"
        states = {health.name: (health.state, health.cooldown.reason) for health in gateway.gateway.health.all()}
    assert [request.model for request in up.requests] == ["one"] + ["two"] * 5
    assert states == {"a/one": ("cooling", "model"), "a/two": ("live", None)}


async def test_content_filter_ends_the_call_unless_fallback_on_names_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    fail_at(up, "one", FILTERED)
    async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
        for api, stream in WAYS:
            answer, told = await ask(client, gateway, api, stream=stream)
            assert (answer.status_code, (told.error or {})["message"]) == (400, "The prompt was filtered"), api.name
    assert {request.model for request in up.requests} == {"one"}
    async with live(targets(up, "a/one", "b/two", settings=", fallback_on: [content_filter]"), environ=ENVIRON) as gateway:
        for api, stream in WAYS:
            answer, told = await ask(client, gateway, api, stream=stream)
            assert (answer.status_code, told.text) == (200, WORDS), api.name


async def test_answer_without_content_by_a_content_filter_leads_to_the_next_target_on_request(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    async def withhold(exchange: Exchange) -> None:
        if exchange.request.json.get("stream"):
            await sse(chat_chunk(role="assistant"), chat_chunk(finish="content_filter"), b"[DONE]")(exchange)
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": "content_filter"}
            body = {"id": "c", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice]}
            await canned(json.dumps(body).encode())(exchange)

    fail_at(up, "one", withhold)
    for settings, target in (("", "a/one"), (", fallback_on: [content_filter]", "b/two")):
        async with live(targets(up, "a/one", "b/two", settings=settings), environ=ENVIRON) as gateway:
            for api, stream in WAYS:
                answer, told = await ask(client, gateway, api, stream=stream)
                assert (answer.status_code, answer.headers["x-gateway-target"]) == (200, target), api.name
                assert told.text == ("" if target == "a/one" else WORDS), api.name


@pytest.mark.parametrize(
    ("settings", "code"), [("", 400), (", fallback_on: [content_filter]", 400), (", fallback_on: [invalid_request]", 200)]
)
async def test_invalid_request_leads_to_the_next_target_on_request(
    up: FaultUpstream, client: httpx.AsyncClient, settings: str, code: int
) -> None:
    fail_at(up, "one", INVALID)
    async with live(targets(up, "a/one", "b/two", settings=settings), environ=ENVIRON) as gateway:
        assert (await post_chat(client, gateway)).status_code == code


async def test_overflow_leads_to_windows_that_are_not_known_to_be_smaller(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    fail_at(up, "gpt-4o", OVERFLOW)
    models = ("a/gpt-4o", "b/gpt-4", "c/unknown")  # windows of 128,000 tokens, 8,192, and an unknown one
    async with live(targets(up, *models, kind="openai"), environ=ENVIRON) as gateway:
        answer = await post_chat(client, gateway, headers=RECEIPT)
        receipt = answer.json()["gateway"]
    assert answer.headers["x-gateway-target"] == "c/unknown"
    assert [(each["target"], each["param"]) for each in receipt["skipped"]] == [("b/gpt-4", "messages")]
    assert [request.model for request in up.requests] == ["gpt-4o", "unknown"]


async def test_overflow_of_a_small_window_leads_to_a_larger_one(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    fail_at(up, "gpt-4", OVERFLOW)
    async with live(targets(up, "a/gpt-4", "b/gpt-4o", kind="openai"), environ=ENVIRON) as gateway:
        assert (await post_chat(client, gateway)).headers["x-gateway-target"] == "b/gpt-4o"


@pytest.mark.parametrize(
    ("first", "second", "code", "error"),
    [
        (OVERFLOW, NO_PATH, 400, "context_length_exceeded"),
        (NO_PATH, OVERFLOW, 400, "context_length_exceeded"),
        (TOO_LARGE, GONE, 413, None),
        (status(500), GONE, 502, "upstream_error"),
        (GONE, status(500), 502, "upstream_error"),
        (status(429), OVERFLOW, 429, "rate_limit_exceeded"),
        (OVERFLOW, status(503), 503, "upstream_overloaded"),
        (status(500), INVALID, 400, "odd"),
        (GONE, GONE, 404, "model_not_found"),
        (NO_PATH, NO_PATH, 502, "upstream_path_not_found"),
        (GONE, NO_PATH, 502, "upstream_path_not_found"),
    ],
    ids=[
        "context-path", "path-context", "size-model", "500-model", "model-500", "429-context", "context-503", "500-400", "model", "path",
        "model-path",
    ],
)  # fmt: skip
async def test_caller_gets_the_most_informative_error(
    up: FaultUpstream, client: httpx.AsyncClient, first: Script, second: Script, code: int, error: str | None
) -> None:
    fail_at(up, "one", first)
    fail_at(up, "two", second)
    async with live(targets(up, "a/one", "b/two"), environ=ENVIRON) as gateway:
        answer = await post_chat(client, gateway)
        assert (answer.status_code, answer.json()["error"]["code"]) == (code, error)


async def test_wrong_base_url_names_the_target_and_is_not_the_callers_404(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", NO_PATH)
    async with live(targets(up, "a/one"), environ=ENVIRON) as gateway:
        for api, stream in WAYS:
            answer, told = await ask(client, gateway, api, stream=stream)
            assert answer.status_code == 502, api.name
            message = (told.error or {})["message"]
            assert message.startswith("a/one: "), api.name
            assert "base_url" in message
            assert answer.headers["x-should-retry"] == "false"


async def test_hedged_call_falls_back_after_a_missing_model(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    fail_at(up, "one", GONE)
    async with live(targets(up, "a/one", "b/two", settings=", hedge: 5s"), environ=ENVIRON) as gateway:
        assert (await post_chat(client, gateway)).headers["x-gateway-target"] == "b/two"


async def test_split_falls_back_after_a_missing_model(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    fail_at(up, "one", GONE)
    yaml = targets(up, "a/one", "b/two").replace("[a/one, b/two]", "{ a/one: 1, b/two: 1 }")
    async with live(yaml, environ=ENVIRON) as gateway:
        answers = [await post_chat(client, gateway) for _ in range(12)]
    assert {answer.headers["x-gateway-target"] for answer in answers} == {"b/two"}
    assert [request.model for request in up.requests].count("one") <= 1


async def test_answers_of_another_than_the_first_target_are_counted(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(targets(up, "a/one", "b/two", settings=", hedge: 5s"), environ=ENVIRON) as gateway:
        await post_chat(client, gateway)
        assert gateway.count("lockgate_fallback_answers") == 0
        fail_at(up, "one", GONE)
        for expected in (1, 2, 3):  # after a fallback, and while the first target is in cooldown
            await post_chat(client, gateway)
            assert gateway.count("lockgate_fallback_answers", "m") == expected
        fail_at(up, "two", GONE)
        assert (await post_chat(client, gateway)).status_code == 404
        assert gateway.count("lockgate_fallback_answers", "m") == 3


async def test_answers_of_a_split_count_if_it_passed_over_a_target_in_cooldown(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    yaml = targets(up, "a/one", "b/two").replace("[a/one, b/two]", "{ a/one: 1, b/two: 1 }")
    async with live(yaml, environ=ENVIRON) as gateway:
        for _ in range(20):
            await post_chat(client, gateway)
        assert gateway.count("lockgate_fallback_answers") == 0
        fail_at(up, "one", GONE)
        for _ in range(40):
            assert (await post_chat(client, gateway)).headers["x-gateway-target"] == "b/two"
        assert 0 < gateway.count("lockgate_fallback_answers", "m") < 40


async def test_only_target_that_announced_a_wait_gets_one_probe_a_second(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", status(429, "slow down", {"retry-after": "30"}, code="rate_limit_exceeded"))
    async with live(targets(up, "a/one"), environ=ENVIRON) as gateway:
        clock = Clock()
        gateway.gateway.health.clock = clock
        answers: list[Any] = []
        for second in range(3):
            clock.now = 1000.0 + second
            answers += [await post_chat(client, gateway) for _ in range(10)]
    assert {answer.status_code for answer in answers} == {429}
    assert len(up.requests) == 1 + 3
    waits = [int(answer.headers["retry-after"]) for answer in answers]
    assert min(waits) >= 28
    assert max(waits) <= 33


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
