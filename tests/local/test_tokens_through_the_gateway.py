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
PICTURES: dict[str, dict[str, Any]] = {
    "/messages/count_tokens": {
        "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]}]
    },
    "/responses/input_tokens": {
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/a.png"}]}]
    },
}
"""Prompts that the engine cannot read."""


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
        pictures = [await post(path, **body) for path, body in PICTURES.items()]
    assert back["prompt"] == "héllo 🦊 <|im_end|>"
    assert len(text["token_strs"]) == text["count"]
    assert {picture["gateway"]["count"] for picture in pictures} == {"estimated"}
    assert len({picture["input_tokens"] for picture in pictures}) == 1
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "tokens")
    assert unknown.json()["error"]["message"] == "'tokens' has an id that is not a token of the local engine's model"
