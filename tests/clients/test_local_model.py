"""The local model through the openai package: its text, and the parameters that new users try first."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from tests.running import Figure, RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES

pytestmark = pytest.mark.timeout(300)
PARIS: Any = [{"role": "user", "content": "What is the capital of France?"}]
STORY: Any = [{"role": "user", "content": "Tell me a story about a fox and a river."}]
CITY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 40}, "country": {"type": "string", "maxLength": 40}},
    "required": ["city", "country"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 40}}, "required": ["city"]},
    },
}


@pytest.fixture
def client(local_gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    """Return a client of the openai package with any key, as a new user would create it."""
    http_client = openai.DefaultHttpxClient(verify=WITHOUT_AUTHORITIES)
    address = local_gateway.base_url
    with openai.OpenAI(base_url=address, api_key="anything", max_retries=0, timeout=120, http_client=http_client) as openai_client:
        yield openai_client


def ask(client: openai.OpenAI, messages: Any = PARIS, **parameters: Any) -> Any:
    """Make a chat call."""
    return client.chat.completions.create(model="local", messages=messages, **parameters)


def text_of(answer: Any) -> str:
    """Return the content of an answer."""
    text = answer.choices[0].message.content
    assert isinstance(text, str)
    return text


def test_an_answer_has_text_and_usage(client: openai.OpenAI, figure: Figure) -> None:
    began = time.monotonic()
    answer = ask(client)
    figure("complete answer", time.monotonic() - began, "s")
    assert "Paris" in text_of(answer)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.prompt_tokens > 5
    assert answer.usage.completion_tokens > 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_has_the_text_of_the_json_answer(client: openai.OpenAI, figure: Figure) -> None:
    expected = text_of(ask(client))
    began = time.monotonic()
    stream = ask(client, stream=True, stream_options={"include_usage": True})
    chunks = [next(iter(stream))]
    figure("first event", time.monotonic() - began, "s")
    chunks += list(stream)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) > 3
    assert "".join(pieces) == expected
    assert chunks[-1].usage.completion_tokens > 3
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


def test_any_model_name_is_answered_by_default(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=PARIS, max_tokens=4)
    assert answer.choices[0].message.content


@pytest.mark.prove  # tests/local/test_model.py has shorter ones
def test_a_seed_reproduces_its_text_and_other_seeds_vary_it(client: openai.OpenAI) -> None:
    def with_seed(seed: int) -> str:
        return text_of(ask(client, STORY, seed=seed, temperature=1, max_tokens=16))

    texts = [with_seed(seed) for seed in range(5)]
    assert [with_seed(seed) for seed in (0, 3)] == [texts[0], texts[3]]
    assert len(set(texts)) >= 2


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI) -> None:
    answer = ask(client, stop=["Paris"])
    assert "Paris" not in text_of(answer)
    assert text_of(answer).strip()
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("cap", ["max_tokens", "max_completion_tokens"])
def test_a_token_limit_ends_the_answer_with_length(client: openai.OpenAI, cap: str) -> None:
    answer = ask(client, STORY, **{cap: 7})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 7


def test_every_token_has_log_probabilities(client: openai.OpenAI) -> None:
    answer = ask(client, logprobs=True, top_logprobs=3, max_tokens=6)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    assert "".join(token.token for token in tokens).strip() == text_of(answer).strip()
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert max(alternative.logprob for alternative in token.top_logprobs) >= token.logprob - 1e-4


def test_more_than_20_top_logprobs_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, logprobs=True, top_logprobs=21)
    assert caught.value.param == "top_logprobs"


def test_an_answer_with_a_json_schema_is_valid(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY_SCHEMA, "strict": True}}
    answer = ask(client, response_format=form, max_tokens=120)
    jsonschema.validate(json.loads(text_of(answer)), CITY_SCHEMA)


def test_a_stream_with_a_json_schema_is_valid(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY_SCHEMA}}
    chunks = ask(client, response_format=form, max_tokens=120, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    jsonschema.validate(json.loads(text), CITY_SCHEMA)


def test_json_mode_returns_an_object(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Reply as a JSON object with the keys name and age for a man called John."}]
    answer = ask(client, messages, response_format={"type": "json_object"}, max_tokens=200)
    assert isinstance(json.loads(text_of(answer)), dict)


NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize(("choice", "stream"), [
    pytest.param("required", False, id="required, json"),
    pytest.param(NAMED, True, id="named, stream"),
    pytest.param("required", True, id="required, stream", marks=pytest.mark.prove),
    pytest.param(NAMED, False, id="named, json", marks=pytest.mark.prove),
])  # fmt: skip
def test_a_forced_tool_call_is_made(client: openai.OpenAI, choice: Any, stream: bool) -> None:
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = ask(client, question, tools=[WEATHER], tool_choice=choice, max_tokens=100, stream=stream)
    if stream:
        chunks = [chunk for chunk in answer if chunk.choices]
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
        name = "".join(call.function.name or "" for call in calls)
        arguments = "".join(call.function.arguments or "" for call in calls)
        finish = chunks[-1].choices[0].finish_reason
    else:
        (call,) = answer.choices[0].message.tool_calls
        assert call.id
        assert call.type == "function"
        name, arguments, finish = call.function.name, call.function.arguments, answer.choices[0].finish_reason
    assert name == "get_weather"
    jsonschema.validate(json.loads(arguments), WEATHER["function"]["parameters"])
    assert finish == "tool_calls"


def test_n_returns_several_choices(client: openai.OpenAI) -> None:
    answer = ask(client, STORY, n=3, seed=1, temperature=1, max_tokens=8)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in answer.choices)


@pytest.mark.prove
async def test_four_concurrent_streams_do_not_mix(local_gateway: RunningGateway, figure: Figure) -> None:
    questions = ["What is the capital of France?", "What is the capital of Italy?", "Name a colour.", "Say hello."]

    async def call(client: openai.AsyncOpenAI, question: str) -> str:
        messages: Any = [{"role": "user", "content": question}]
        stream: Any = await client.chat.completions.create(model="local", messages=messages, max_tokens=12, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    async with openai.AsyncOpenAI(base_url=local_gateway.base_url, api_key="anything", max_retries=0, timeout=120) as client:
        alone = [await call(client, question) for question in questions]
        began = time.monotonic()
        together = await asyncio.gather(*(call(client, question) for question in questions))
        figure("4 streams of 12 tokens", time.monotonic() - began, "s")
    assert together == alone
    assert len(set(alone)) == 4


async def test_disconnects_free_the_slots_of_the_engine(local_gateway: RunningGateway, figure: Figure) -> None:
    """Four callers that use all slots disconnect. The next answer comes before their stories could have ended."""
    async with openai.AsyncOpenAI(base_url=local_gateway.base_url, api_key="anything", max_retries=0, timeout=120) as client:
        streams: list[Any] = [
            await client.chat.completions.create(model="local", messages=STORY, max_tokens=1500, temperature=1, seed=seed, stream=True)
            for seed in range(4)
        ]
        for stream in streams:
            await anext(aiter(stream))
        for stream in streams:
            await stream.close()
        began = time.monotonic()
        answer = await client.chat.completions.create(model="local", messages=PARIS, max_tokens=1)
        figure("first token of the next answer after four disconnects", time.monotonic() - began, "s")
        assert answer.choices[0].message.content
        assert time.monotonic() - began < 30


def test_defaults_set_by_the_gateway_are_on_the_receipt(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="local", messages=PARIS, max_tokens=4)
    assert '"temperature";set_default' in raw.headers["x-gateway-adjusted"]
    explicit = client.chat.completions.with_raw_response.create(
        model="local", messages=[{"role": "system", "content": "Be brief."}, *PARIS], max_tokens=4, temperature=0.5
    )
    assert "temperature" not in explicit.headers.get("x-gateway-adjusted", "")


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "unknown", "content": "hello"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([], "messages"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}]}], "messages"),
    ],
    ids=["unknown role", "no content", "no messages", "an image"],
)
def test_messages_the_model_cannot_read_are_refused_and_named(client: openai.OpenAI, messages: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages)
    assert (caught.value.param or "").startswith(param)
