"""One request with one seed gets the same answer from the real engine in every API, as JSON and as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.flows.conftest import RECEIPT, post_as
from tests.flows.live import Live, live
from tests.support.apis import EACH_WAY, WAYS, Api, Told
from tests.support.plain_http import WITHOUT_AUTHORITIES

pytestmark = [pytest.mark.prove, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

YAML = """
providers:
  local: { prices: { '*': { prompt: 10, output: 100 } } }
models:
  m: local/smollm2-135m-instruct
"""
STORY = [
    {"role": "system", "content": "You tell short stories."},
    {"role": "user", "content": "Tell me a story about a fox and a river."},
]
CALLS: dict[str, dict[str, Any]] = {
    "seed": {"max_tokens": 12, "temperature": 1, "seed": 11},
    "stop": {"max_tokens": 30, "temperature": 0, "stop": ["a"]},
    "schema": {
        "max_tokens": 40,
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "output",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"animal": {"type": "string", "enum": ["fox", "river"]}},
                    "required": ["animal"],
                    "additionalProperties": False,
                },
            },
        },
    },
    "adjusted": {"max_tokens": 8, "temperature": 0, "user": "u", "service_tier": "flex", "reasoning_effort": "low"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(bundled_model: Path) -> AsyncIterator[Live]:
    """Run a gateway with the bundled model."""
    async with live(YAML) as one:
        yield one


async def ask(gateway: Live, api: Api, *, stream: bool, **more: Any) -> Told:
    """Return the answer that the caller of an API reads."""
    if stream:
        more |= {"stream": True, "stream_options": {"include_usage": True}}
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=120) as client:
        answer = await post_as(api, client, gateway, headers=RECEIPT, messages=STORY, **more)
    assert answer.status_code == 200, answer.text
    return api.read(answer)


def meaning(told: Told, api: Api | None = None) -> Any:
    """Return the parts that must be the same. With an API, parameters of chat completions get its names."""
    assert told.receipt is not None
    assert told.tokens is not None
    name = api.param if api is not None else str
    changed = [
        (name(each["param"]), each["action"])
        for each in told.receipt["adjustments"]
        if each["param"] != "stream_options"  # only chat completions have to request usage
        and (each["param"], each["action"]) != ("max_output_tokens", "rename")
    ]
    tokens = told.tokens._replace(cached=0)  # a repeated prompt is in the engine's cache
    return told.text, told.stop, tokens, told.receipt["target"], told.receipt["cost_usd"], told.receipt["stop_matched"], changed


@pytest.mark.parametrize("name", CALLS)
@EACH_WAY
async def test_the_same_call_gets_the_same_answer(gateway: Live, api: Api, stream: bool, name: str) -> None:
    chat, _ = WAYS[0]
    expected = await ask(gateway, chat, stream=False, **CALLS[name])
    found = await ask(gateway, api, stream=stream, **CALLS[name])
    assert expected.text
    assert meaning(found) == meaning(expected, api)
