"""Rerank through the whole gateway, at strict endpoints of each vendor."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from benchmarks.ports import free_port
from gateway.dialects.table import PREFIXES
from tests.faults.behaviours import canned, status
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import RECEIPT, serving
from tests.flows.live import Live, live
from tests.flows.operator import bearer
from tests.flows.test_embeddings_flow import ENVIRON, TOKEN, keys
from tests.providers.strict_rerank import RERANKERS, script

KINDS = tuple(RERANKERS)
TEXTS = ["paris", "berlin", "capital of france", "france"]
QUERY = "capital"
RANKED = [2, 0, 3, 1]
"""The indexes of the texts by their score for the query."""


def on(up: FaultUpstream, kind: str) -> None:
    """Make the upstream the strict endpoint of a vendor."""
    up.on("/v1/rerank", script(kind))


async def rerank(
    client: httpx.AsyncClient,
    gateway: Live,
    documents: Any = TEXTS,
    headers: dict[str, str] | None = None,
    path: str = "/v1/rerank",
    **more: Any,
) -> httpx.Response:
    """Send one call."""
    url = gateway.base_url.removesuffix("/v1") + path
    return await client.post(url, json={"model": "m", "query": QUERY, "documents": documents, **more}, headers=headers)


def indexes(answer: httpx.Response) -> list[int]:
    """Return the indexes of the results in order."""
    assert answer.status_code == 200, answer.text
    return [result["index"] for result in answer.json()["results"]]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_provider_ranks_texts_and_objects(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    on(up, kind)
    objects: list[Any] = [{"text": text, "id": at} for at, text in enumerate(TEXTS)]
    async with serving(up, kind=kind) as gateway:
        plain = await rerank(client, gateway)
        best = await rerank(client, gateway, objects, top_n=2, return_documents=True, headers=RECEIPT)
        many = await rerank(client, gateway, top_n=10, return_documents=False)
        records = await gateway.records(3)
    assert indexes(plain) == indexes(many) == RANKED
    assert "document" not in plain.json()["results"][0]
    assert [result["document"] for result in best.json()["results"]] == [objects[2], objects[0]]
    assert plain.json()["model"] == "m"
    assert [(record["operation"], record["output_tokens"]) for record in records] == [("rerank", 0)] * 3
    assert all(record["prompt_tokens"] > 0 for record in records)
    told = {(each["param"], each["action"]) for each in best.json()["gateway"]["adjustments"]}
    assert {("documents", "reshape"), ("return_documents", "enforce_locally")} <= told


@pytest.mark.parametrize("kind", KINDS)
async def test_fields_of_a_vendor_are_sent_or_reported(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    on(up, kind)
    sent_fields = set(RERANKERS[kind].fields.split())
    fields = {"max_tokens_per_doc": 512, "task": "find", "max_chunks_per_doc": 3}
    async with serving(up, kind=kind) as gateway:
        for name, value in fields.items():
            answer = await rerank(client, gateway, headers=RECEIPT, **{name: value})
            strict = await rerank(client, gateway, headers={"x-gateway-strict": "true"}, **{name: value})
            if name in sent_fields or kind == "openai-compatible":
                assert up.requests[-1].json[name] == value
                continue
            assert ("drop", name) in {(each["action"], each["param"]) for each in answer.json()["gateway"]["adjustments"]}
            assert (strict.status_code, strict.json()["error"]["param"]) == (400, name)


async def test_rank_fields_choose_the_text_of_objects_at_every_vendor(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "together")
    documents = [{"text": "x", "title": "capital", "year": 1999}, "paris", {"title": "only"}]
    async with serving(up, kind="together") as gateway:
        answer = await rerank(client, gateway, documents, rank_fields=["title", "year"])
    assert up.requests[0].json["documents"] == ["title: capital\nyear: 1999", "paris", "title: only"]
    assert indexes(answer)[0] == 0


async def test_more_documents_than_the_maximum_go_to_the_next_target_or_are_a_400(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    config = f"""
providers:
  few: {{ type: cohere, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  many: {{ type: vllm, base_url: "{up.base_url}" }}
models: {{ m: [few/mock, many/mock], one: few/mock }}"""
    on(up, "vllm")
    async with live(config, environ=ENVIRON) as gateway:
        answer = await rerank(client, gateway, ["a"] * 10_001, top_n=1)
        refused = await client.post(gateway.base_url + "/rerank", json={"model": "one", "query": "q", "documents": ["a"] * 10_001})
    assert (answer.status_code, len(up.requests)) == (200, 1)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "documents")
    assert "10000" in error["message"]


async def test_failure_falls_back_and_the_receipt_shows_both(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "cohere")
    config = f"""
providers:
  none: {{ type: groq, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  down: {{ type: fireworks, base_url: "http://127.0.0.1:{free_port()}/v1", api_key: "${{UP_KEY}}" }}
  up: {{ type: cohere, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models: {{ m: [none/mock, down/mock, up/mock], none: none/mock }}"""
    async with live(config, environ=ENVIRON) as gateway:
        answer = await rerank(client, gateway, headers=RECEIPT)
        refused = await client.post(gateway.base_url + "/rerank", json={"model": "none", "query": "q", "documents": ["a"]})
    assert indexes(answer) == RANKED
    assert [each["outcome"] for each in answer.json()["gateway"]["attempts"]] == ["connect", "ok"]
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_operation")


async def test_each_path_answers_in_its_own_form(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "cohere")
    async with serving(up, kind="cohere") as gateway:
        v2 = (await rerank(client, gateway, path="/v2/rerank")).json()
        invalid = await rerank(client, gateway, [], path="/v2/rerank")
        fireworks = (await rerank(client, gateway, path="/inference/v1/rerank", top_n=1)).json()
        for prefix in PREFIXES:
            assert (await rerank(client, gateway, path=prefix + "/rerank")).status_code == 200
        plan = await rerank(client, gateway, [{"text": "a"}], path="/v2/rerank/explain")
        other_method = await client.get(gateway.base_url + "/rerank")
    assert v2["meta"] == {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    assert set(v2) == {"id", "results", "meta"}
    assert (invalid.status_code, set(invalid.json())) == (400, {"id", "message"})
    assert fireworks["data"] == [{"index": 2, "relevance_score": 1.0, "document": "capital of france"}]
    assert plan.json()["targets"][0]["request"]["body"]["documents"] == ["a"]
    assert other_method.status_code == 405


async def test_search_units_are_billed_by_their_price(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "cohere")
    prices = "{ mock: { prompt: 10, output: 10, search: 2 } }"
    config = f"""
providers:
  up: {{ type: cohere, base_url: "{up.base_url}", api_key: "${{UP_KEY}}", prices: {prices} }}
models: {{ m: up/mock }}
{keys("{ requests: 10/h, spend: 0.0039 USD/day }")}"""
    async with live(config, environ=ENVIRON) as gateway:
        first = await rerank(client, gateway, headers={**bearer(TOKEN), **RECEIPT})
        over = await rerank(client, gateway, headers=bearer(TOKEN))
        (record, _) = await gateway.records(2)
    assert record["cost_usd"] == pytest.approx(0.002)
    assert first.json()["usage"] == {"search_units": 1}
    assert over.status_code == 429


async def test_limit_on_tokens_counts_the_query_with_each_document(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    on(up, "vllm")
    async with serving(up, keys("{ tokens: 1000/h, strict: true }"), kind="vllm") as gateway:
        first = await rerank(client, gateway, headers=bearer(TOKEN))
        refused = await rerank(client, gateway, ["a"] * 30, headers=bearer(TOKEN))
    used = len(QUERY) * len(TEXTS) + sum(map(len, TEXTS))
    assert first.headers["x-ratelimit-limit-tokens"] == "1000"
    assert refused.status_code in (400, 429)
    assert int(refused.headers.get("x-ratelimit-remaining-tokens", 1000 - used)) == 1000 - used
    assert len(up.requests) == 1


@pytest.mark.parametrize(
    "data", [b'{"results":[]}', b'{"results":[{"index":9,"relevance_score":1}]}', b"{}", b"[]", b"no json", b'{"results":[5]}']
)
async def test_answer_that_is_not_a_ranking_is_a_failure(up: FaultUpstream, client: httpx.AsyncClient, data: bytes) -> None:
    up.on("/v1/rerank", canned(data))
    async with serving(up) as gateway:
        answer = await rerank(client, gateway)
    assert answer.status_code == 502, answer.text
    assert "ranked documents" in answer.json()["error"]["message"]


async def test_upstream_error_reaches_the_caller_in_the_form_of_the_path(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/rerank", status(400, "too long"))
    async with serving(up) as gateway:
        common = await rerank(client, gateway)
        cohere = await rerank(client, gateway, path="/v2/rerank")
    assert (common.status_code, common.json()["error"]["message"]) == (400, "too long")
    assert (cohere.status_code, cohere.json()["message"]) == (400, "too long")
