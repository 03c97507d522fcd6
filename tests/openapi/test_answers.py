"""Answers of the callers' APIs have the documented schemas, translated or not."""

from __future__ import annotations

from typing import Any

import httpx
import jsonschema_rs
import pytest

from gateway.openapi.answers import SCHEMAS
from gateway.openapi.document import document
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live
from tests.providers.strict_rerank import script as rerank_script
from tests.support.plain_http import WITHOUT_AUTHORITIES

DOCUMENT = document("callers")
HELLO = [{"role": "user", "content": "Hello"}]
CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {"messages": HELLO}, "ChatCompletion"),
    ("/v1/completions", {"prompt": "Hello"}, "TextCompletion"),
    ("/v1/embeddings", {"input": "Hello"}, "Embeddings"),
    ("/v1/rerank", {"query": "q", "documents": ["a", "b"]}, "Rerank"),
    ("/inference/v1/rerank", {"query": "q", "documents": ["a", "b"]}, "Rerank"),
    ("/v2/rerank", {"query": "q", "documents": ["a", "b"]}, "RerankV2"),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 9}, "Message"),
    ("/v1/tokenize", {"messages": HELLO, "return_token_strs": True}, "Tokens"),
    ("/v1/responses", {"input": "Hello"}, "Response"),
    ("/v1/messages/count_tokens", {"messages": HELLO}, "MessageTokens"),
    ("/v1/responses/input_tokens", {"input": "Hello"}, "InputTokens"),
    ("/v1/explain", {"messages": HELLO, "top_k": 5}, "Plan"),
]
READS = [
    ("/v1/models", {}, "Models"),
    ("/v1/models/m", {}, "Model"),
    ("/v1/models", {"anthropic-version": "2023-06-01"}, "MessagesModels"),
    ("/v1/models/m", {"anthropic-version": "2023-06-01"}, "MessagesModel"),
    ("/v1/tcp_warming", {}, "Status"),
    ("/v1/nothing", {}, "Error"),
    ("/v1/nothing", {"anthropic-version": "2023-06-01"}, "MessagesError"),
]


def validator(name: str) -> Any:
    """Return the validator of a component."""
    return jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]})


async def test_every_answer_has_its_schema_and_every_call_its_receipt() -> None:
    async with FaultUpstream() as upstream:
        provider = f'{{ type: openai-compatible, base_url: "{upstream.base_url}" }}'
        yaml = f"providers: {{ up: {provider} }}\nmodels: {{ m: up/mock }}\n"
        async with live(yaml) as gateway, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gateway.url, timeout=60) as client:
            upstream.on("/v1/rerank", rerank_script("openai-compatible"))
            for path, body, name in CALLS:
                answer = await client.post(path, json={"model": "m", **body}, headers={"x-gateway-receipt": "body"})
                assert answer.status_code == 200, answer.text
                validator(name).validate(answer.json())
                if name in ("ChatCompletion", "TextCompletion", "Embeddings", "Message", "Response"):
                    validator("Receipt").validate(answer.json()["gateway"])
            stored = (await client.post("/v1/responses", json={"model": "m", "input": "Hello", "store": True})).json()[
                "id"
            ]
            for path, name in (("", "Response"), ("/input_items", "InputItems"), ("/nothing", "Error")):
                validator(name).validate((await client.get(f"/v1/responses/{stored}{path}")).json())
            validator("DeletedResponse").validate((await client.delete(f"/v1/responses/{stored}")).json())
            for path, headers, name in READS:
                validator(name).validate((await client.get(path, headers=headers)).json())


@pytest.mark.parametrize("name", [name for name in SCHEMAS if name not in ("Json", "Adjustment", "Receipt")])
def test_schema_rejects_an_empty_object(name: str) -> None:
    assert not validator(name).is_valid({})
