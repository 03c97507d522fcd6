"""One request of a rerank call: an answer that is not a ranking is billed, and another target answers."""

from __future__ import annotations

import httpx

from gateway.response import rerank_response
from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import RECEIPT
from tests.flows.live import live
from tests.providers.strict_rerank import script

INCOMPLETE = b'{"results":[{"index":0,"relevance_score":1}],"usage":{"prompt_tokens":7,"total_tokens":7}}'


async def test_incomplete_ranking_is_billed_and_the_next_target_answers(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/bad/rerank", canned(INCOMPLETE))
    up.on("/v1/rerank", script("vllm"))
    origin = up.base_url.removesuffix("/v1")
    config = f"""
providers:
  bad: {{ type: vllm, base_url: "{origin}/bad" }}
  up: {{ type: vllm, base_url: "{up.base_url}" }}
models: {{ m: [bad/mock, up/mock] }}"""
    async with live(config) as gateway:
        body = {"model": "m", "query": "q", "documents": ["a", "q"]}
        answer = await client.post(gateway.base_url + "/rerank", json=body, headers=RECEIPT)
        (record,) = await gateway.records(1)
    assert [result["index"] for result in answer.json()["results"]] == [1, 0]
    assert [attempt["outcome"] for attempt in record["attempts"]] == [rerank_response.NOT_RANKED.kind, "ok"]
    (billed,) = record["billed_attempts"]
    assert (billed["target"], billed["usage"]["prompt_tokens"]) == ("bad/mock", 7)
