"""POST /v1/embeddings through the whole gateway, at strict endpoints of each vendor."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from benchmarks.ports import free_port
from gateway.dialects.table import PREFIXES
from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream, status
from tests.flows.conftest import RECEIPT, serving
from tests.flows.live import Live, live
from tests.flows.operator import bearer, digest
from tests.providers.strict_embeddings import ENDPOINTS, packed, script, vector_of

KINDS = tuple(ENDPOINTS)
ENVIRON = {"UP_KEY": "sk-upstream-credential"}
TOKEN = "lg-a-0123456789abcdef"


def keys(limits: str) -> str:
    """Return a `keys` section with one key and its limits."""
    return f"keys:\n  team: {{ hash: '{digest(TOKEN)}', limits: {limits} }}\n"


async def embed(client: httpx.AsyncClient, gateway: Live, value: Any, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """Send one call for embeddings."""
    return await client.post(gateway.base_url + "/embeddings", json={"model": "m", "input": value, **more}, headers=headers)


def vectors(answer: httpx.Response) -> list[Any]:
    """Return the vectors of an answer, whose indexes must be in order."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["object"] == "list"
    assert [each["index"] for each in body["data"]] == list(range(len(body["data"])))
    assert all(each["object"] == "embedding" for each in body["data"])
    return [each["embedding"] for each in body["data"]]


def on(up: FaultUpstream, kind: str) -> None:
    """Make the upstream the strict endpoint of a vendor."""
    up.on("/v1" + ENDPOINTS[kind].path, script(kind))


@pytest.mark.parametrize("kind", KINDS)
async def test_every_provider_answers_one_text_and_many_in_each_encoding(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str
) -> None:
    on(up, kind)
    texts = [f"text {number}" for number in range(5)]
    forms: tuple[tuple[dict[str, str], Any], ...] = (
        ({}, list), ({"encoding_format": "float"}, list), ({"encoding_format": "base64"}, packed),
    )  # fmt: skip
    async with serving(up, kind=kind) as gateway:
        for more, expected in forms:
            one = await embed(client, gateway, "hello", **more)
            many = await embed(client, gateway, texts, **more)
            assert vectors(one) == [expected(vector_of("hello"))]
            assert vectors(many) == [expected(vector_of(text)) for text in texts]
        records = await gateway.records(6)
    assert [(record["operation"], record["output_tokens"]) for record in records] == [("embeddings", 0)] * 6
    if ENDPOINTS[kind].reports_usage:
        assert many.json()["usage"] == {"prompt_tokens": 30, "total_tokens": 30}
        assert records[1]["prompt_tokens"] == 30
    else:
        assert records[1]["prompt_tokens"] > 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if ENDPOINTS[kind].most < 1000])
async def test_list_over_the_maximum_is_split_and_merged_in_order(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    on(up, kind)
    most = ENDPOINTS[kind].most
    texts = [f"text number {number}" for number in range(2 * most + 1)]
    async with serving(up, kind=kind) as gateway:
        answer = await embed(client, gateway, texts, headers=RECEIPT)
        (record,) = await gateway.records(1)
    assert vectors(answer) == [vector_of(text) for text in texts]
    assert len(up.requests) == 3
    tokens = sum(map(len, texts))
    if ENDPOINTS[kind].reports_usage:
        assert answer.json()["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
        assert (record["prompt_tokens"], record["output_tokens"]) == (tokens, 0)
    (split,) = [each for each in answer.json()["gateway"]["adjustments"] if each["action"] == "fan_out"]
    assert (split["param"], split["from"], split["to"]) == ("input", 2 * most + 1, [most, most, 1])


async def test_tokens_of_all_inputs_are_within_the_maximum_of_one_request(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "openai")
    texts = ["x" * 90_000, "é" * 100_000, "y" * 200_000, "z"]
    arrays = [[1] * 150_000, [2] * 150_000, [3]]
    async with serving(up, kind="openai") as gateway:
        assert vectors(await embed(client, gateway, texts)) == [vector_of(text) for text in texts]
        assert len(up.requests) == 2
        assert vectors(await embed(client, gateway, arrays)) == [vector_of(array) for array in arrays]
    assert len(up.requests) == 4


@pytest.mark.parametrize("kind", KINDS)
async def test_token_ids_are_sent_or_refused(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    on(up, kind)
    endpoint = ENDPOINTS[kind]
    async with serving(up, kind=kind) as gateway:
        flat = await embed(client, gateway, [1, 2, 3])
        nested = await embed(client, gateway, [[1, 2, 3], [4]])
    if endpoint.tokens or endpoint.flat_tokens_field:
        assert vectors(flat) == [vector_of([1, 2, 3])]
        assert vectors(nested) == [vector_of([1, 2, 3]), vector_of([4])]
        return
    for answer in (flat, nested):
        assert answer.status_code == 400
        assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == ("input", "unsupported_content")
    assert up.requests == []


async def test_long_token_array_is_sent_inside_a_list(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "openai")
    async with serving(up, kind="openai") as gateway:
        answer = await embed(client, gateway, [7] * 3000, headers=RECEIPT)
    assert vectors(answer) == [vector_of([7] * 3000)]
    assert up.requests[0].json["input"] == [[7] * 3000]
    assert [(each["param"], each["action"]) for each in answer.json()["gateway"]["adjustments"]] == [("input", "reshape")]


@pytest.mark.parametrize("kind", KINDS)
async def test_dimensions_are_honoured_or_refused(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    on(up, kind)
    async with serving(up, kind=kind) as gateway:
        answer = await embed(client, gateway, "hello", dimensions=256)
    if {"dimensions", "output_dimension"} & set(ENDPOINTS[kind].fields.split()):
        assert vectors(answer) == [vector_of("hello", 256)]
    else:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "dimensions")
        assert up.requests == []


@pytest.mark.parametrize("kind", KINDS)
async def test_user_and_unknown_fields_are_sent_or_reported(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    on(up, kind)
    strict = {"x-gateway-strict": "true"}
    accepts_unknown = kind in ("vllm", "llamacpp", "openrouter")
    async with serving(up, kind=kind) as gateway:
        answer = await embed(client, gateway, "hello", user="u1", temperature=0.5, headers=RECEIPT)
        refused = await embed(client, gateway, "hello", temperature=0.5, headers=strict)
        unknown = await embed(client, gateway, "hello", colour="red", headers=strict)
    assert vectors(answer) == [vector_of("hello")]
    told = {(each["param"], each["action"]) for each in answer.json()["gateway"]["adjustments"]}
    assert ("temperature", "drop") in told
    sent = up.requests[0]
    by_header = dict(sent.headers).get("x-siati-user") == "u1"
    assert sent.json.get("user") == "u1" or by_header or ("user", "drop") in told
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")
    if not accepts_unknown:
        assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "colour")


@pytest.mark.parametrize("kind", ["anthropic", "cerebras", "deepseek", "goodfire", "groq", "xai"])
async def test_provider_without_embeddings_is_a_clear_400(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    async with serving(up, kind=kind) as gateway:
        answer = await embed(client, gateway, "hello")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "unsupported_operation")
    assert "embeddings" in error["message"]
    assert up.requests == []


async def test_target_without_embeddings_is_skipped_and_a_failure_falls_back(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "siati")
    config = f"""
providers:
  none: {{ type: groq, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  down: {{ type: openai, base_url: "http://127.0.0.1:{free_port()}/v1", api_key: "${{UP_KEY}}" }}
  text: {{ type: cohere, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  ids: {{ type: vllm, base_url: "{up.base_url}" }}
  up: {{ type: siati, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models:
  m: [none/mock, down/mock, up/mock]
  tokens: [text/mock, ids/mock]
"""
    async with live(config, environ=ENVIRON) as gateway:
        answer = await embed(client, gateway, "hello")
        on(up, "vllm")
        ids = await embed(client, gateway, [1, 2], model="tokens")
        records = await gateway.records(2)
    assert vectors(answer) == [vector_of("hello")]
    assert [attempt["outcome"] for attempt in records[0]["attempts"]] == ["connect", "ok"]
    assert vectors(ids) == [vector_of([1, 2])]
    assert [record["target"] for record in records] == ["up/mock", "ids/mock"]


INVALID_INPUTS: tuple[tuple[Any, str, str], ...] = (
    (None, "input", "missing_required_parameter"),
    ("", "input", "invalid_value"),
    ([], "input", "invalid_value"),
    (["a", ""], "input[1]", "invalid_value"),
    (["a", 1], "input[1]", "invalid_type"),
    ([1, "a"], "input[1]", "invalid_type"),
    ([1, True], "input[1]", "invalid_type"),
    ([1, 2.5], "input[1]", "invalid_type"),
    ([-1], "input[0]", "invalid_value"),
    ([[1], []], "input[1]", "invalid_value"),
    ([[1], [2, "x"]], "input[1][1]", "invalid_type"),
    ([[1], "x"], "input[1]", "invalid_type"),
    ([{"text": "x"}], "input[0]", "invalid_type"),
    ({"text": "x"}, "input", "invalid_type"),
    (7, "input", "invalid_type"),
    (["a"] * 16_385, "input", "invalid_value"),
)


async def test_invalid_input_is_a_400_that_names_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        for value, param, code in INVALID_INPUTS:
            answer = await embed(client, gateway, value)
            assert answer.status_code == 400, value
            assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, code)
    assert up.requests == []


INVALID_FIELDS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"encoding_format": "hex"}, "encoding_format"),
    ({"encoding_format": 1}, "encoding_format"),
    ({"dimensions": 0}, "dimensions"),
    ({"dimensions": "3"}, "dimensions"),
    ({"dimensions": True}, "dimensions"),
    ({"user": 1}, "user"),
    ({"user": "a\nb"}, "user"),
    ({"stream": True}, "stream"),
    ({"api_key": "x"}, "api_key"),
    ({"timeout_microseconds": 0}, "timeout_microseconds"),
)


async def test_invalid_field_is_a_400_that_names_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        for more, param in INVALID_FIELDS:
            answer = await embed(client, gateway, "hello", **more)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert up.requests == []


@pytest.mark.parametrize(
    "data",
    [
        b'{"object":"list"}',
        b'{"data":[]}',
        b'{"data":[{"index":0,"embedding":[1,2]},{"index":1,"embedding":[1,2]}]}',
        b'{"data":[{"index":3,"embedding":[1,2]}]}',
        b'{"data":[{"index":0}]}',
        b'{"data":[{"index":0,"embedding":null}]}',
        b'{"data":[{"index":0,"embedding":{"a":1}}]}',
        b'{"data":[{"index":0,"embedding":"AAA"}]}',
        b'{"data":[{"index":0,"embedding":"AAAAAAA="}]}',
        b'{"choices":[]}',
        b"[]",
        b"no json",
    ],
)
async def test_answer_that_is_not_the_vectors_of_the_inputs_is_a_failure(
    up: FaultUpstream, client: httpx.AsyncClient, data: bytes
) -> None:
    up.on("/v1/embeddings", canned(data))
    async with serving(up) as gateway:
        answer = await embed(client, gateway, "hello")
    assert answer.status_code == 502, answer.text
    assert "list of embeddings" in answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["openai", "openai-compatible", "vllm", "cohere"])
async def test_fields_of_chat_have_no_effect_whatever_their_type(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    on(up, "cohere" if kind == "cohere" else "openai")
    fields = ("tools", "stop", "response_format", "n", "messages", "stream_options", "max_tokens", "functions", "seed", "texts")
    async with serving(up, "default_output_tokens: 100\n" + keys("{ tokens: 100k/h, strict: true }"), kind=kind) as gateway:
        for value in (5, "x", [5], {"a": 5}, [{"role": 5}]):
            for name in fields:
                answer = await embed(client, gateway, "hello", headers=bearer(TOKEN), **{name: value})
                assert answer.status_code in (200, 400), (name, value, answer.text)


async def test_vectors_out_of_order_are_sorted_and_other_answers_keep_their_bytes(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/embeddings", canned(b'{"data":[{"index":1,"embedding":[2.5]},{"index":0,"embedding":[1.50]}],"model":"x"}'))
    async with serving(up) as gateway:
        assert vectors(await embed(client, gateway, ["a", "b"])) == [[1.5], [2.5]]
        exact = b'{"object":"list", "data":[{"object":"embedding","index":0,"embedding":[0.10, 1e0]}],"model":"x","extra":1}'
        up.on("/v1/embeddings", canned(exact))
        assert (await embed(client, gateway, "a")).content == exact


async def test_embeddings_are_served_under_every_prefix(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "openai")
    async with serving(up, kind="openai") as gateway:
        for prefix in PREFIXES:
            url = gateway.base_url.removesuffix("/v1") + prefix + "/embeddings"
            answer = await client.post(url, json={"model": "m", "input": "hello"})
            assert vectors(answer) == [vector_of("hello")]


async def test_failure_of_one_batch_fails_the_call_and_bills_the_answered_ones(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "siati")
    up.on(lambda request: b"poison" in request.body, status(429, "slow down"))
    async with serving(up, kind="siati") as gateway:
        answer = await embed(client, gateway, ["a"] * 32 + ["poison"])
        (record,) = await gateway.records(1)
    assert (answer.status_code, record["status"]) == (429, 429)
    assert "data" not in answer.json()


async def test_reservation_is_the_counted_input_and_settles_to_the_reported_usage(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "openai")
    prices = "{ mock: { prompt: 10, output: 100 } }"
    config = f"""
providers:
  up: {{ type: openai, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", prices: {prices} }}
models: {{ m: up/mock }}
{keys("{ tokens: 1000/h, requests: 10/h }")}"""
    async with live(config, environ=ENVIRON) as gateway:
        first = await embed(client, gateway, [[1] * 100, [2] * 50], headers=bearer(TOKEN))
        second = await embed(client, gateway, [5] * 10, headers=bearer(TOKEN))
        refused = await embed(client, gateway, [5] * 900, headers=bearer(TOKEN))
        records = await gateway.records(3)
    assert first.headers["x-ratelimit-remaining-tokens"] == "850"
    assert second.headers["x-ratelimit-remaining-tokens"] == "840"
    assert (refused.status_code, refused.headers["x-ratelimit-remaining-tokens"]) == (429, "840")
    assert [record.get("prompt_tokens") for record in records[:2]] == [150, 10]
    assert records[0]["cost_usd"] == pytest.approx(150 * 10 / 1e6)


async def test_strict_limit_reserves_an_upper_bound_and_sends_no_output_cap(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "openai")
    async with serving(up, keys("{ tokens: 10000/h, strict: true }"), kind="openai") as gateway:
        answer = await embed(client, gateway, "hello", headers=bearer(TOKEN))
        settled = await embed(client, gateway, [1], headers=bearer(TOKEN))
    assert vectors(answer) == [vector_of("hello")]
    size = len(b'{"model":"m","input":"hello"}')
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) == 10_000 - size - 32
    assert int(settled.headers["x-ratelimit-remaining-tokens"]) == 10_000 - 5 - len(b'{"model":"m","input":[1]}') - 32
    assert "max_tokens" not in up.requests[0].json


async def test_explain_shows_the_request_of_each_batch(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, kind="siati") as gateway:
        body = {"model": "m", "input": ["a"] * 40}
        answer = await client.post(gateway.base_url + "/embeddings/explain", json=body)
    request = answer.json()["targets"][0]["request"]
    assert request["url"].endswith("/v1/embeddings")
    assert [len(each["input"]) for each in request["bodies"]] == [32, 8]


async def test_metrics_have_the_operation(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "openai")
    async with serving(up, kind="openai") as gateway:
        await embed(client, gateway, "hello")
        await gateway.records(1)
        assert gateway.count("lockgate_requests", "m", "up/mock", "up", "embeddings", "2xx", "ok") == 1


async def test_friendli_serverless_has_no_embeddings(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "friendli")
    config = f"""
providers:
  up: {{ type: friendli, base_url: "{up.base_url.removesuffix("/v1")}/serverless/v1", api_key: "${{UP_KEY}}" }}
models: {{ m: up/mock }}
"""
    async with live(config, environ=ENVIRON) as gateway:
        answer = await embed(client, gateway, "hello")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_operation")
