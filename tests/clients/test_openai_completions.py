"""Completions of the local engine through the openai package."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.running import RunningGateway

pytestmark = pytest.mark.prove


@pytest.fixture
def local(local_gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    """Return a client of the gateway with the local engine."""
    with openai.OpenAI(base_url=local_gateway.base_url, api_key="anything", max_retries=0, timeout=120) as client:
        yield client


def test_json_and_stream_continue_the_prompt(local: openai.OpenAI) -> None:
    prompt = "The capital of France is"
    answer = local.completions.create(model="local", prompt=prompt, max_tokens=6, temperature=0)
    assert answer.object == "text_completion"
    assert "Paris" in answer.choices[0].text
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (6, "length")
    options = {"include_usage": True}
    chunks = list(
        local.completions.create(model="local", prompt=prompt, max_tokens=6, temperature=0, stream=True, stream_options=options)
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == answer.choices[0].text
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [6]


def test_lists_token_ids_stops_and_log_probabilities(local: openai.OpenAI) -> None:
    both = local.completions.create(model="local", prompt=["One, two,", "A, B,"], max_tokens=4)
    assert [choice.index for choice in both.choices] == [0, 1]
    assert local.completions.create(model="local", prompt=[1, 2, 3], max_tokens=2).choices[0].text
    whole = local.completions.create(model="local", prompt="Hello", max_tokens=12, temperature=0).choices[0].text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 2]
    cut = local.completions.create(model="local", prompt="Hello", max_tokens=12, temperature=0, stop=stop).choices[0]
    assert (cut.text, cut.finish_reason) == (whole[: whole.index(stop)], "stop")
    listed = local.completions.create(model="local", prompt="Hello", max_tokens=3, temperature=0, logprobs=2).choices[0]
    assert listed.logprobs is not None
    assert listed.logprobs.tokens is not None
    assert "".join(listed.logprobs.tokens) == listed.text
    assert listed.logprobs.text_offset is not None
    assert listed.logprobs.text_offset[0] == 0


@pytest.mark.parametrize("more", [{"echo": True}, {"suffix": "x"}, {"best_of": 2}])
def test_what_the_engine_lacks_is_a_400_that_names_it(local: openai.OpenAI, more: dict[str, object]) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        local.completions.create(model="local", prompt="Hello", **more)  # type: ignore[call-overload]
    assert raised.value.param == next(iter(more))
