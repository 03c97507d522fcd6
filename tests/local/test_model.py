"""The bundled model in the real engine, used as the gateway uses it: adapted, streamed, decoded, joined."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import jsonschema
import pytest

from providers.aggregate import Aggregate
from providers.base import Body, Options, Target
from providers.local import probe
from providers.local.adapter import LOCAL
from providers.local.supervisor import Engine
from tests.local.conftest import client_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

Figure = Callable[[str, float, str], None]
PARIS = [{"role": "user", "content": "What is the capital of France?"}]
STORY = [{"role": "user", "content": "Tell me a story about a fox and a river."}]
TARGET = Target(name="local/m", provider="local", kind=LOCAL, model="m", base_url="http://engine/v1")
CITY: dict[str, Any] = {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 30}}, "required": ["city"], "additionalProperties": False,
}  # fmt: skip


async def chunks_of(engine: Engine, body: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    """Yield the chunks that a caller would get."""
    options = Options(stream=True)
    adapted = Body(json.dumps({"model": "any", **body}).encode())
    LOCAL.adapt(adapted, TARGET, options)
    request = LOCAL.encode(adapted, TARGET, options)
    decoder = LOCAL.decoder(TARGET, options)
    assert decoder is not None
    async with client_of(engine) as client, client.stream("POST", request.path, content=request.body, headers=request.headers) as response:
        if response.status_code != 200:
            raise AssertionError(LOCAL.failure(response.status_code, {}, await response.aread()))
        async for line in response.aiter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                for chunk in decoder.feed("", line[6:].encode()):
                    yield chunk


async def ask(engine: Engine, **body: Any) -> dict[str, Any]:
    """Return the joined answer."""
    full = Aggregate()
    async for chunk in chunks_of(engine, {"messages": PARIS, "max_tokens": 12, **body}):
        full.feed(chunk)
    assert full.finished
    answer: dict[str, Any] = json.loads(full.result())
    return answer


def text(answer: dict[str, Any], index: int = 0) -> str:
    """Return the text of a choice."""
    text: str = answer["choices"][index]["message"]["content"]
    return text


async def busy_slots(engine: Engine) -> int:
    """Return the number of busy slots that the engine reports."""
    _, body = await probe.get(engine.socket, "/slots")
    return sum(slot["is_processing"] for slot in json.loads(body))


async def test_answer_is_real_text_with_usage(engine: Engine) -> None:
    answer = await ask(engine)
    assert "Paris" in text(answer)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"] > 20


async def test_seed_repeats_the_text_alone_and_in_parallel(engine: Engine) -> None:
    async def seeded(seed: int) -> str:
        return text(await ask(engine, messages=STORY, seed=seed, temperature=1))

    alone = [await seeded(seed) for seed in range(4)]
    assert len(set(alone)) >= 2
    assert await asyncio.gather(*(seeded(seed) for seed in range(4))) == alone


async def test_choices_differ_and_repeat_and_their_usage_is_added_up(engine: Engine) -> None:
    body = {"messages": STORY, "n": 4, "seed": 3, "temperature": 1, "max_tokens": 6}
    first, second = await ask(engine, **body), await ask(engine, **body)
    texts = [text(first, index) for index in range(4)]
    assert len(set(texts)) >= 2
    assert texts == [text(second, index) for index in range(4)]
    assert first["usage"]["completion_tokens"] == 24
    assert first["usage"]["prompt_tokens"] < 100


async def test_stop_and_cap_end_the_answer(engine: Engine) -> None:
    stopped = await ask(engine, stop=["Paris"])
    assert (stopped["choices"][0]["finish_reason"], "Paris" in text(stopped)) == ("stop", False)
    capped = await ask(engine, messages=STORY, max_tokens=5)
    assert (capped["choices"][0]["finish_reason"], capped["usage"]["completion_tokens"]) == ("length", 5)


@pytest.mark.parametrize("alternatives", [0, 2, 20])
async def test_log_probabilities_have_the_adapted_number_of_alternatives(engine: Engine, alternatives: int) -> None:
    answer = await ask(engine, logprobs=True, top_logprobs=alternatives, max_tokens=4)
    tokens = answer["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == text(answer)
    assert [len(token["top_logprobs"]) for token in tokens] == [alternatives] * len(tokens)


async def test_answer_matches_its_schema(engine: Engine) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    jsonschema.validate(json.loads(text(await ask(engine, response_format=form, max_tokens=80))), CITY)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
async def test_forced_tool_call_is_made(engine: Engine, choice: Any) -> None:
    weather = {"type": "function", "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": CITY}}
    other = {"type": "function", "function": {"name": "get_time"}}
    answer = await ask(engine, tools=[weather, other], tool_choice=choice, max_tokens=120)
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert call["function"]["name"] in (["get_weather", "get_time"] if choice == "required" else ["get_weather"])
    if call["function"]["name"] == "get_weather":
        jsonschema.validate(json.loads(call["function"]["arguments"]), CITY)


async def test_recursive_function_parameters_are_enforced(engine: Engine) -> None:
    parameters = {
        "$defs": {"unit": {"enum": ["celsius", "kelvin"]}},
        "type": "object",
        "properties": {"unit": {"$ref": "#/$defs/unit"}},
        "required": ["unit"],
    }
    tools = [{"type": "function", "function": {"name": "set_unit", "parameters": parameters}}]
    answer = await ask(engine, tools=tools, tool_choice="required", max_tokens=80)
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    jsonschema.validate(json.loads(call["function"]["arguments"]), parameters)


async def test_parallel_streams_equal_single_ones(engine: Engine, figure: Figure) -> None:
    questions = [[{"role": "user", "content": word}] for word in ("Say hello.", "Name a colour.", "Name an animal.", "Count to three.")]
    alone = [text(await ask(engine, messages=item)) for item in questions]
    began = time.monotonic()
    together = [text(item) for item in await asyncio.gather(*(ask(engine, messages=item) for item in questions))]
    figure("4 streams of up to 12 tokens at once", time.monotonic() - began, "s")
    assert together == alone


async def test_disconnect_during_generation_frees_the_slot(engine: Engine, figure: Figure) -> None:
    stream = chunks_of(engine, {"messages": STORY, "max_tokens": 1500, "ignore_eos": True})
    for _ in range(4):
        await anext(stream)
    assert await busy_slots(engine) == 1
    began = time.monotonic()
    await stream.aclose()
    while await busy_slots(engine):
        assert time.monotonic() - began < 20
        await asyncio.sleep(0.005)
    figure("slot free after a caller left while text came", time.monotonic() - began, "s")


async def test_disconnect_during_a_long_prompt_frees_the_slot(engine: Engine, figure: Figure) -> None:
    prompt = [{"role": "user", "content": " ".join(f"{n} foxes crossed river {n * 7}." for n in range(110))}]
    task = asyncio.create_task(ask(engine, messages=prompt, max_tokens=5))
    while not await busy_slots(engine):
        assert not task.done()
        await asyncio.sleep(0.01)
    began = time.monotonic()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    while await busy_slots(engine):
        assert time.monotonic() - began < 30
        await asyncio.sleep(0.02)
    figure("slot free after a caller left during a long prompt", time.monotonic() - began, "s")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"nonsense", b'{"messages": 5}', b'{"messages": [{}]}', b'{"messages": [{"role": 1, "content": []}]}',
        b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_object", "schema": {"type": "no"}}}',
        b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": -5}', b"[" * 100_000,
        b'{"messages": [{"role": "user", "content": "a"}], "logit_bias": {"99999999": 5}, "max_tokens": 1}',
    ],
)  # fmt: skip
async def test_no_request_ends_the_engine(engine: Engine, body: bytes) -> None:
    before = engine.pid
    async with client_of(engine) as client:
        answer = await client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    if answer.status_code != 200:
        assert LOCAL.failure(answer.status_code, {}, answer.content).kind == "client_error"
    assert "Paris" in text(await ask(engine))
    assert engine.pid == before


async def test_embeddings_and_exact_counts_come_from_the_same_process(engine: Engine) -> None:
    async with client_of(engine) as client:
        vectors = (await client.post("/v1/embeddings", json={"input": ["a fox", "a river"]})).json()["data"]
        counted = (await client.post("/v1/chat/completions/input_tokens", json={"messages": PARIS})).json()
    assert [len(vector["embedding"]) for vector in vectors] == [576, 576]
    assert counted["input_tokens"] > 5


async def test_prompt_longer_than_the_context_is_a_client_error(engine: Engine) -> None:
    async with client_of(engine) as client:
        long = [{"role": "user", "content": "hello " * 3000}]
        answer: httpx.Response = await client.post("/v1/chat/completions", json={"messages": long, "stream": True})
    result = LOCAL.failure(answer.status_code, {}, answer.content)
    assert (result.status, result.code) == (400, "context_length_exceeded")
