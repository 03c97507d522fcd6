"""Seeds, choices, stop strings and min_tokens of the real engine, through the whole gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.flows.conftest import events
from tests.flows.live import Live, live
from tests.support.plain_http import WITHOUT_AUTHORITIES

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

STORY = [{"role": "user", "content": "Tell me a story about a fox and a river."}]
YAML = """
providers:
  local: {}
models:
  m: local/smollm2-135m-instruct
  "*": m
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(bundled_model: Path) -> AsyncIterator[Live]:
    """Run a gateway with the bundled model."""
    async with live(YAML) as one:
        yield one


async def ask(gateway: Live, **more: Any) -> dict[str, Any]:
    """Return a JSON answer with its receipt."""
    body = {"model": "m", "messages": STORY, "max_tokens": 12, "temperature": 1, **more}
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=120) as client:
        answer = await client.post(gateway.base_url + "/chat/completions", json=body, headers={"x-gateway-receipt": "body"})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def texts(answer: dict[str, Any]) -> list[str]:
    """Return the texts of the choices."""
    return [choice["message"]["content"] for choice in answer["choices"]]


async def test_same_seed_repeats_the_text_at_temperature_1(gateway: Live) -> None:
    first, again = [texts(await ask(gateway, seed=11)) for _ in range(2)]
    assert first == again
    assert first != [""]


async def test_list_of_seeds_equals_the_single_seeds(gateway: Live) -> None:
    together = texts(await ask(gateway, n=3, seed=[1, 2, 3]))
    alone = [texts(await ask(gateway, seed=seed))[0] for seed in (1, 2, 3)]
    assert together == alone
    assert len(set(together)) >= 2


async def test_streamed_choices_equal_the_json_answer(gateway: Live) -> None:
    full = texts(await ask(gateway, n=3, seed=[1, 2, 3]))
    body = {"model": "m", "messages": STORY, "max_tokens": 12, "temperature": 1, "n": 3, "seed": [1, 2, 3], "stream": True}
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=120) as client:
        answer = await client.post(gateway.base_url + "/chat/completions", json=body)
    streamed = ["", "", ""]
    for event in events(answer.text)[:-1]:
        for choice in json.loads(event)["choices"]:
            streamed[choice["index"]] += choice["delta"].get("content") or ""
    assert streamed == full


async def test_stop_string_ends_the_text_and_may_be_included(gateway: Live) -> None:
    (text,) = texts(await ask(gateway, temperature=0, max_tokens=20))
    stop = text.split()[4]
    index = text.index(stop)
    cut = await ask(gateway, temperature=0, max_tokens=20, stop=stop)
    kept = await ask(gateway, temperature=0, max_tokens=20, stop=stop, include_stop_str_in_output=True)
    assert (texts(cut), texts(kept)) == ([text[:index]], [text[: index + len(stop)]])
    assert kept["gateway"]["stop_matched"] == stop
    assert [item["choices"][0]["finish_reason"] for item in (cut, kept)] == ["stop", "stop"]


async def test_engine_durations_are_in_time_info(gateway: Live) -> None:
    times = (await ask(gateway))["gateway"]["time_info"]
    assert times["source"] == "provider"
    assert times["total_time"] == pytest.approx(times["prompt_time"] + times["completion_time"])
    assert times["completion_time"] > 0


PARIS = [{"role": "user", "content": "What is the capital of France?"}]


async def test_answer_continues_until_min_tokens(gateway: Live) -> None:
    short = await ask(gateway, messages=PARIS, temperature=0, max_tokens=60)
    long = await ask(gateway, messages=PARIS, temperature=0, max_tokens=60, min_tokens=16)
    assert short["usage"]["completion_tokens"] < 16 <= long["usage"]["completion_tokens"] <= 60
    assert texts(long)[0].startswith(texts(short)[0])
    assert len(texts(long)[0]) > len(texts(short)[0])
    assert long["usage"]["prompt_tokens"] == short["usage"]["prompt_tokens"]
    assert {"param": "min_tokens", "action": "enforce_locally"}.items() <= long["gateway"]["adjustments"][-1].items()
    again = await ask(gateway, messages=PARIS, temperature=0, max_tokens=60, min_completion_tokens=16)
    assert texts(again) == texts(long)


async def test_cap_and_stop_override_min_tokens(gateway: Live) -> None:
    capped = await ask(gateway, messages=PARIS, temperature=0, max_tokens=12, min_tokens=12)
    assert (capped["usage"]["completion_tokens"], capped["choices"][0]["finish_reason"]) == (12, "length")
    stopped = await ask(gateway, messages=PARIS, temperature=0, max_tokens=60, min_tokens=16, stop=" Paris")
    assert (texts(stopped), stopped["choices"][0]["finish_reason"]) == (["The capital of France is"], "stop")
    json_mode = {"response_format": {"type": "json_object"}}
    reported = (await ask(gateway, messages=PARIS, min_tokens=5, **json_mode))["gateway"]["adjustments"]
    assert ("min_tokens", "drop") in [(item["param"], item["action"]) for item in reported]


@pytest.mark.parametrize("seed", [{"seed": [1, 2]}, *(pytest.param(one, marks=pytest.mark.prove) for one in ({}, {"seed": 7}))])
async def test_min_tokens_applies_to_each_choice(gateway: Live, seed: dict[str, Any]) -> None:
    answer = await ask(gateway, messages=PARIS, max_tokens=40, min_tokens=16, n=2, logprobs=True, **seed)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert all(len(choice["logprobs"]["content"]) >= 16 for choice in answer["choices"])
    assert answer["usage"]["completion_tokens"] >= 32


async def test_min_tokens_applies_to_text_with_tools(gateway: Live) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    more: dict[str, Any] = {"messages": PARIS, "temperature": 0, "max_tokens": 60, "tools": [tool], "tool_choice": "auto"}
    answer = await ask(gateway, min_tokens=24, **more)
    (choice,) = answer["choices"]
    assert choice["message"].get("tool_calls") or answer["usage"]["completion_tokens"] >= 24


@pytest.mark.parametrize("model", ["m", "gpt-4o"])
async def test_answers_have_the_model_that_was_asked_for(gateway: Live, model: str) -> None:
    assert (await ask(gateway, model=model, max_tokens=2))["model"] == model
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=120) as client:
        body = {"model": model, "messages": PARIS, "max_tokens": 2, "stream": True}
        answer = await client.post(gateway.base_url + "/chat/completions", json=body)
    assert {json.loads(event)["model"] for event in events(answer.text) if event != "[DONE]"} == {model}


@pytest.mark.parametrize("text", ["What is the capital of France?", "Hello!"])
async def test_the_first_examples_end(gateway: Live, text: str) -> None:
    """Without a repetition penalty, the bundled model repeats a sentence until its context is full."""
    answer = await ask(gateway, messages=[{"role": "user", "content": text}], temperature=None, max_tokens=200)
    assert answer["choices"][0]["finish_reason"] == "stop"
    reported = [(item["param"], item["action"], item.get("to")) for item in answer["gateway"]["adjustments"]]
    assert ("repetition_penalty", "set_default", 1.05) in reported


async def test_min_tokens_applies_to_streams(gateway: Live) -> None:
    more: dict[str, Any] = {"messages": PARIS, "temperature": 0, "max_tokens": 60, "min_tokens": 16}
    full = await ask(gateway, **more)
    body = {"model": "m", **more, "stream": True, "stream_options": {"include_usage": True}}
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=120) as client:
        answer = await client.post(gateway.base_url + "/chat/completions", json=body)
    events = [event.removeprefix("data: ") for event in answer.text.split("\n\n") if event]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert text == texts(full)[0]
    assert chunks[-2]["choices"][0]["finish_reason"] == full["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"]["completion_tokens"] == full["usage"]["completion_tokens"] >= 16
