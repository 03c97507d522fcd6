"""Tokens of the local engine: the same count in every API, and ids that are converted back to the text."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.flows.live import eventually, live
from tests.support.plain_http import WITHOUT_AUTHORITIES

pytestmark = pytest.mark.timeout(120)
YAML = "providers: { local: { slots: 1 } }\nmodels: { m: local/smollm2-135m-instruct }\n"
TALKS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "héllo 🦊 <|im_end|>"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c\n\nd"}],
]


async def test_tokens_are_those_that_the_engine_reads(bundled_model: object) -> None:
    async with live(YAML) as gateway, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=60) as client:
        await eventually(lambda: gateway.gateway.generation.engines["local"].state == "ready", 60)

        async def post(path: str, **body: Any) -> dict[str, Any]:
            answer = await client.post(gateway.base_url + path, json={"model": "m", **body})
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        for messages in TALKS:
            tokens = await post("/tokenize", messages=messages)
            counted = await post("/messages/count_tokens", messages=[each for each in messages if each["role"] != "system"],
                                 system=next((each["content"] for each in messages if each["role"] == "system"), ""))  # fmt: skip
            answer = await post("/chat/completions", messages=messages, max_tokens=1)
            assert tokens["count"] == len(tokens["tokens"]) == counted["input_tokens"] == answer["usage"]["prompt_tokens"]
            assert (tokens["exact"], tokens["tokenizer"], tokens["max_model_len"]) == (True, "engine", 2048)
        text = await post("/tokenize", prompt="héllo 🦊 <|im_end|>", return_token_strs=True)
        back = await post("/detokenize", tokens=text["tokens"])
        unknown = await client.post(gateway.base_url + "/detokenize", json={"model": "m", "tokens": [10_000_000]})
    assert back["prompt"] == "héllo 🦊 <|im_end|>"
    assert len(text["token_strs"]) == text["count"]
    assert unknown.status_code == 400
