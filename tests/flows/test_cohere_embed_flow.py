"""Calls of Cohere's embed API over HTTP: native at Cohere, translated at every other provider."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.faults.behaviours import canned, status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import RECEIPT, serving
from tests.flows.live import Live, live
from tests.flows.operator import digest
from tests.providers.strict_embeddings import ENDPOINTS, script, vector_of

STRICT = {"x-gateway-strict": "true"}
TOKEN = "lg-a-0123456789abcdef"
ANSWER = b'{"id": "e1",\n "embeddings": {"int8": [[1, -2]], "float": [[0.5, 0.25]]}, "meta": {"billed_units": {"input_tokens": 3.0}}}'


async def embed(
    client: httpx.AsyncClient, gateway: Live, headers: dict[str, str] | None = None, path: str = "/v2/embed", **more: Any
) -> httpx.Response:
    """Make one call as Cohere's client does."""
    body = {"model": "m", "texts": ["a", "b"], "input_type": "search_query", **more}
    body = {name: value for name, value in body.items() if value is not None}
    return await client.post(gateway.url + path, json=body, headers=headers)


async def test_cohere_gets_the_bytes_and_the_caller_gets_its_answer(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/embed", canned(ANSWER))
    image = {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    asks: tuple[dict[str, Any], ...] = (
        {"embedding_types": ["int8", "float"], "output_dimension": 256, "truncate": "START", "priority": 3, "max_tokens": 9},
        {"texts": None, "inputs": [image]},
        {},
    )
    async with serving(up, kind="cohere") as gateway:
        for more in asks:
            given = {name: value for name, value in {"texts": ["a"], **more}.items() if value is not None}
            source = json.dumps({"model": "m", "input_type": "search_document", **given}, indent=1).encode()
            answer = await client.post(gateway.url + "/v2/embed", content=source, headers=STRICT)
            assert (answer.status_code, answer.content) == (200, ANSWER)
            assert up.requests[-1].json == {**json.loads(source), "model": "mock"}
            assert "x-gateway-adjusted" not in answer.headers
        receipt = (await embed(client, gateway, RECEIPT, texts=["a"])).json()["gateway"]
        records = await gateway.records(4)
    assert (receipt["usage_source"], receipt["adjustments"]) == ("reported", [])
    assert [(record["prompt_tokens"], record["output_tokens"]) for record in records] == [(3, 0)] * 4


async def test_more_texts_than_cohere_accepts_are_sent_in_several_requests(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/embed", script("cohere"))
    texts = [f"text {number}" for number in range(200)]
    async with serving(up, kind="cohere") as gateway:
        answer = await embed(client, gateway, texts=texts)
    assert answer.json()["embeddings"] == {"float": [vector_of(each) for each in texts]}
    assert answer.json()["texts"] == texts
    assert sorted(len(request.json["texts"]) for request in up.requests) == [8, 96, 96]
    assert {request.json["truncate"] for request in up.requests} == {"END"}
    assert {request.json["input_type"] for request in up.requests} == {"search_query"}


async def test_every_other_provider_answers_in_cohere_s_form(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    kinds = [kind for kind in ENDPOINTS if kind not in ("azure", "cohere", "gemini")]
    lines = [f'  {kind}: {{ base_url: "{up.origin}/{kind}/v1", api_key: "${{K}}" }}' for kind in kinds]
    models = [f"  {kind}: {kind}/x" for kind in kinds]
    async with live("\n".join(["providers:", *lines, "models:", *models, ""]), environ={"K": "k"}) as gateway:
        for kind in kinds:
            up.on(f"/{kind}/v1{ENDPOINTS[kind].path}", script(kind))
            for path, is_plain in (("/v2/embed", False), ("/v1/embed", True)):
                answer = await embed(client, gateway, path=path, model=kind)
                assert answer.status_code == 200, (kind, answer.text)
                vectors = [vector_of("a"), vector_of("b")]
                assert answer.json()["embeddings"] == (vectors if is_plain else {"float": vectors}), kind
                assert answer.json()["meta"]["billed_units"] == {"input_tokens": 2}
            refused = await embed(client, gateway, STRICT, model=kind, input_type="search_query")
            accepts_types = "input_type" in ENDPOINTS[kind].fields.split()
            assert (refused.status_code, "'input_type'" in refused.text) == ((200, False) if accepts_types else (400, True)), kind


async def test_only_targets_at_cohere_get_requests_that_others_cannot_serve(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/embed", canned(ANSWER))
    up.on("/v1/embeddings", script("vllm"))
    text = f"""
providers:
  co: {{ type: cohere, base_url: "{up.base_url}", api_key: "${{K}}" }}
  v: {{ type: vllm, base_url: "{up.base_url}" }}
models: {{ m: [v/x, co/x], only: v/x, first: [co/x, v/x] }}
"""
    async with live(text, environ={"K": "k"}) as gateway:
        native = await embed(client, gateway, embedding_types=["int8"])
        none = await embed(client, gateway, model="only", embedding_types=["int8"])
        old = await embed(client, gateway, path="/v1/embed", embedding_types=["int8"])
        up.on("/v1/embed", status(500))
        fallback = await embed(client, gateway, model="first")
        plan = await client.post(gateway.url + "/v2/embed/explain", json={"model": "first", "texts": ["a"]})
    assert native.content == ANSWER
    for answer in (none, old):
        assert (answer.status_code, answer.json().keys()) == (400, {"id", "message"})
        assert all(word in answer.json()["message"] for word in ("'embedding_types'", "passthrough"))
    assert fallback.json()["embeddings"] == {"float": [vector_of("a"), vector_of("b")]}
    assert [target["native"] for target in plan.json()["targets"]] == [True, False]


async def test_first_version_passes_beside_a_base_url_of_the_second(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    floats = b'{"id": "e2",\n "response_type": "embeddings_floats", "embeddings": [[0.5]], "meta": {"billed_units": {"input_tokens": 3.0}}}'
    up.on("/v1/embed", canned(floats))
    up.on("/v2/embed", script("cohere"))
    keys = f"keys: {{ team: {{ hash: '{digest(TOKEN)}', limits: {{ tokens: 1000/h }} }} }}"
    text = f'providers: {{ co: {{ type: cohere, base_url: "{up.origin}/v2", api_key: "${{K}}" }} }}\nmodels: {{ m: co/x }}\n{keys}\n'
    given = {"authorization": f"Bearer {TOKEN}"}
    async with live(text, environ={"K": "k"}) as gateway:
        plain = await embed(client, gateway, {**STRICT, **given}, "/v1/embed", texts=["a"], truncate="START")
        receipt = (await embed(client, gateway, {**RECEIPT, **given}, "/v1/embed", images=["data:,x"], texts=None)).json()["gateway"]
        sent = [(request.path, request.json) for request in up.requests]
        many = await embed(client, gateway, given, "/v1/embed", texts=["a"] * 100)
        plan = await client.post(gateway.url + "/v1/embed/explain", json={"model": "m", "texts": ["a"]}, headers=given)
        records = await gateway.records(3)
    assert (plain.status_code, plain.content) == (200, floats)
    assert sent == [
        ("/v1/embed", {"model": "x", "texts": ["a"], "input_type": "search_query", "truncate": "START"}),
        ("/v1/embed", {"model": "x", "images": ["data:,x"], "input_type": "search_query"}),
    ]
    assert (receipt["usage_source"], receipt["target"]) == ("reported", "co/x")
    assert many.json()["embeddings"] == [vector_of("a")] * 100, "more texts than Cohere accepts are sent to its version 2"
    assert [target["native"] for target in plan.json()["targets"]] == [True]
    assert [record["prompt_tokens"] for record in records] == [3, 3, 100]
    assert int(many.headers["x-ratelimit-remaining-tokens"]) <= 1000 - 6


async def test_limits_and_errors_are_those_of_embeddings(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/embed", canned(ANSWER))
    keys = f"keys:\n  team: {{ hash: '{digest(TOKEN)}', limits: {{ requests: 1/h, tokens: 5000/h, strict: true }} }}\n"
    async with serving(up, keys, kind="cohere") as gateway:
        given = {"authorization": f"Bearer {TOKEN}"}
        answers = [
            await embed(client, gateway),
            await embed(client, gateway, given, texts=[]),
            await embed(client, gateway, given, stream=True),
            await embed(client, gateway, given),
            await embed(client, gateway, given),
        ]
    assert [answer.status_code for answer in answers] == [401, 400, 400, 200, 429], [answer.text for answer in answers]
    assert "'texts'" in answers[1].json()["message"]
    assert all(answer.status_code == 200 or answer.json().keys() == {"id", "message"} for answer in answers)


async def test_paths_of_cohere_s_first_version_are_explained(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        answer = await client.post(gateway.url + "/v1/chat", json={"message": "hi"})
    assert answer.status_code == 404
    assert all(word in answer.text for word in ("ClientV2", "passthrough", "https://api.cohere.com/v1"))
