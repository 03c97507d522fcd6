"""Usage objects as vendors report them, odd ones included: counts, parts, caches, reported costs and service tiers."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.answers import read_answer
from providers.anthropic import answers as anthropic
from providers.anthropic.answers import openai_usage, service_tier
from providers.cohere import answers as cohere
from providers.plain_usage import PlainUsage, read_mapped, read_of_inputs
from providers.token_usage import Usage
from providers.usage import normalize_usage, read_usage
from tests.support.each import each
from tests.support.search import examples


def chat(usage: dict[str, Any], **more: Any) -> bytes:
    """Return a chat completion with this usage."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    return msgspec.json.encode(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage, **more}
    )


def used(prompt: int, output: int, **details: int) -> dict[str, Any]:
    """Return a usage object with details of the prompt."""
    return {
        "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output, "prompt_tokens_details": details,
    }  # fmt: skip


@each(
    ("given", "expected"),
    [
        ({"prompt_tokens": "12", "completion_tokens": "3", "total_tokens": "15"}, Usage(12, 3)),
        ({"prompt_tokens": 12.0, "completion_tokens": 3.0}, Usage(12, 3)),
        ({"prompt_tokens": 12, "completion_tokens": None, "total_tokens": 15}, Usage(12, 3)),
        ({"prompt_tokens": None, "completion_tokens": 3, "total_tokens": 15}, Usage(12, 3)),
        ({"prompt_tokens": 12, "completion_tokens": -3, "total_tokens": 15}, Usage(12, 3)),
        ({"total_tokens": 15}, Usage(unsplit_tokens=15)),
        ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": 15}, Usage(unsplit_tokens=15)),
        ({"prompt_tokens": -12, "completion_tokens": -3, "total_tokens": -15}, None),
        ({"prompt_tokens": True, "completion_tokens": False}, None),
        ({"prompt_tokens": "many", "completion_tokens": "3"}, None),
        ({"prompt_tokens": float("inf"), "completion_tokens": 1}, None),
        ({"prompt_tokens": 12, "completion_tokens": None}, None),
        ({}, None),
        (None, None),
        ("12", None),
        ({**used(10, 5, cached_tokens=100), "total_tokens": 15}, Usage(10, 5, cached_tokens=10)),
        ({**used(10, 5, cached_tokens=100), "total_tokens": 115}, Usage(110, 5, cached_tokens=100)),
        (used(10, 5, cached_tokens=-4), Usage(10, 5)),
        (used(10, 5, audio_tokens=4, image_tokens=3), Usage(10, 5, audio_prompt_tokens=4, image_prompt_tokens=3)),
        (used(10, 5, cached_tokens=9, cache_write_tokens=9), Usage(10, 5, cached_tokens=9, cache_write_tokens=1)),
        (
            used(10, 5, cache_write_tokens=8, cache_write_1h_tokens=6),
            Usage(10, 5, cache_write_tokens=8, cache_write_1h_tokens=6),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"audio_tokens": 2, "image_tokens": 1}},
            Usage(10, 5, audio_output_tokens=2, image_output_tokens=1),
        ),
    ],
)
def test_odd_usage_is_read_right(given: Any, expected: Usage | None) -> None:
    assert read_usage(given) == expected
    if type(given) is dict and given and float("inf") not in given.values():
        answered = read_answer(chat(given), ()).usage
        assert answered == expected


@each(
    ("given", "shown"),
    [
        ({"prompt_tokens": 12, "total_tokens": 15}, 3),
        ({"prompt_tokens": 12, "total_tokens": 12}, None),
        ({"prompt_tokens": 12, "completion_tokens": None, "total_tokens": 12}, 0),
    ],
)
def test_output_that_only_the_total_reports_is_shown_as_it_is_billed(given: dict[str, Any], shown: int | None) -> None:
    assert normalize_usage(given).get("completion_tokens") == shown


@each(
    ("given", "shown", "read"),
    [
        ({"input_tokens": 10, "output_tokens": 2}, {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}, Usage(10, 2)),
        (
            {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 2,
             "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 12},
            {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4},
             "completion_tokens_details": {"reasoning_tokens": 1}},
            Usage(10, 2, 4, 1),
        ),
        (
            {"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2, "output_tokens": 2},
            {"cache_read_input_tokens": 5, "cache_creation_input_tokens": 2, "prompt_tokens": 10, "completion_tokens": 2,
             "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2}},
            Usage(10, 2, 5, cache_write_tokens=2),
        ),
        ({"input_tokens": "10", "output_tokens": -1}, {"input_tokens": "10", "output_tokens": -1}, None),
    ],
)  # fmt: skip
def test_usage_under_the_names_of_other_apis_is_shown_and_read(given: dict[str, Any], shown: dict[str, Any], read: Usage | None) -> None:
    assert normalize_usage(given) == shown
    assert read_usage(given) == read
    assert msgspec.json.decode(read_answer(chat(given), ()).body)["usage"] == shown


def test_usage_of_groq_is_shown_in_json_answers() -> None:
    given = {name: value for name, value in msgspec.json.decode(chat({})).items() if name != "usage"}
    answered = read_answer(msgspec.json.encode({**given, "x_groq": {"id": "r", "usage": used(10, 2)}}), ())
    assert msgspec.json.decode(answered.body)["usage"] == used(10, 2)
    assert answered.usage == Usage(10, 2)


def test_text_counts_are_shown_as_numbers() -> None:
    assert normalize_usage({"prompt_tokens": "12", "completion_tokens": "3", "total_tokens": 15}) == {
        "prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15,
    }  # fmt: skip


@each(
    ("cost", "nano_dollars"),
    [
        ({"cost": 0.00014}, 140_000),
        ({"cost": 0.1}, 100_000_000),
        ({"cost": 0}, 0),
        ({"cost": {"total_cost": 0.0061, "input_tokens_cost": 0.0001}}, 6_100_000),
        ({"estimated_cost": 1.35e-05}, 13_500),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.0360795}}, 36_079_500),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, 21_000_000),
        ({"cost": 0.02, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.02}}, 20_000_000),
        ({"cost": 0.001, "is_byok": True, "cost_details": None}, 1_000_000),
        ({"cost_in_usd_ticks": 37_756_001}, 3_775_601),
        ({"cost": -1}, None),
        ({"cost": "free"}, None),
        ({"cost": True}, None),
        ({"cost": 1e9}, None),
    ],
)
def test_a_reported_cost_is_read_in_nano_dollars(cost: dict[str, Any], nano_dollars: int | None) -> None:
    usage = read_answer(chat({"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3, **cost}), ()).usage
    assert usage == Usage(2, 1, reported_cost=nano_dollars)


@each(
    ("tier", "expected"), [("priority", "priority"), ("flex", "flex"), (None, ""), (3, ""), ("x" * 99, "x" * 40)]
)
def test_the_service_tier_of_an_answer_is_part_of_its_usage(tier: Any, expected: str) -> None:
    for usage in ({"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}, {"prompt_tokens": 2, "completion_tokens": 1}):
        assert read_answer(chat(usage, service_tier=tier), ()).usage == Usage(2, 1, service_tier=expected)


def test_anthropics_caches_and_tiers_are_kept() -> None:
    reported = {
        "input_tokens": 10, "output_tokens": 4, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}, "service_tier": "standard",
    }  # fmt: skip
    expected = Usage(47, 4, cached_tokens=7, cache_write_tokens=30, cache_write_1h_tokens=20, service_tier="standard")
    assert read_usage(openai_usage(reported), service_tier(reported)) == expected
    assert service_tier({**reported, "speed": "fast"}) == "fast"
    assert service_tier(None) is None


COUNT = st.integers(0, 10**9) | st.none()
DETAILS = st.none() | st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens"]), COUNT)
OUTPUT_DETAILS = st.none() | st.dictionaries(st.sampled_from(["reasoning_tokens", "audio_tokens", "image_tokens"]), COUNT)


@settings(max_examples=examples(200))
@given(prompt=st.integers(0, 10**6), output=st.integers(0, 10**6), asked=DETAILS, made=OUTPUT_DETAILS)
def test_the_usual_form_is_read_as_any_other(prompt: int, output: int, asked: Any, made: Any) -> None:
    raw = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    raw |= {name: value for name, value in (("prompt_tokens_details", asked), ("completion_tokens_details", made)) if value is not None}
    if (asked or {}).get("cached_tokens") is None or asked["cached_tokens"] <= prompt:
        assert msgspec.convert(raw, PlainUsage).read("flex") == read_usage(raw, "flex")


TIER = st.none() | st.text(max_size=50) | st.integers()
OTHER_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "cached_tokens": COUNT,
        "prompt_cache_hit_tokens": COUNT,
        "cost_in_usd_ticks": COUNT,
        "estimated_cost": COUNT | st.floats(0, 1),
        "billed_units": st.none() | st.fixed_dictionaries({"input_tokens": COUNT, "output_tokens": COUNT}),
        "cache_creation": st.none() | st.fixed_dictionaries({"ephemeral_1h_input_tokens": COUNT}),
        "unknown": COUNT,
    },
)
"""Fields of a usage that only some vendors have."""


@settings(max_examples=examples(300))
@given(
    counts=st.fixed_dictionaries(
        {}, optional={name: COUNT | st.floats() | st.just("7") for name in ("prompt_tokens", "completion_tokens", "total_tokens", "cost")}
    ),
    others=OTHER_FIELDS,
    asked=DETAILS | st.just([]),
    made=OUTPUT_DETAILS,
    tier=TIER,
)
def test_a_mapped_usage_is_read_as_any_other(counts: dict[str, Any], others: dict[str, Any], asked: Any, made: Any, tier: Any) -> None:
    raw = counts | others | {"prompt_tokens_details": asked, "completion_tokens_details": made}
    assert read_mapped(raw, tier) == read_usage(raw, tier)


@settings(max_examples=examples(300))
@given(prompt=st.integers(0, 50), output=st.integers(0, 50), total=st.integers(0, 150), asked=st.integers(0, 60), made=st.integers(0, 60))
def test_a_mapped_usage_with_small_counts_is_read_as_any_other(prompt: int, output: int, total: int, asked: int, made: int) -> None:
    raw = {
        "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": asked, "cache_write_tokens": made},
        "completion_tokens_details": {"reasoning_tokens": made},
    }  # fmt: skip
    assert read_mapped(raw, "flex") == read_usage(raw, "flex")


@settings(max_examples=examples(300))
@given(others=OTHER_FIELDS, asked=DETAILS)
def test_a_mapped_usage_with_fields_of_other_vendors_is_read_as_any_other(others: dict[str, Any], asked: Any) -> None:
    raw = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, "prompt_tokens_details": asked, **others}
    assert read_mapped(raw, "flex") == read_usage(raw, "flex")


def test_a_sum_keeps_its_parts() -> None:
    one, two = Usage(10, 1, service_tier="flex", reported_cost=5), Usage(20, 2)
    both = Usage().plus(one).plus(two)
    assert (both.prompt_tokens, both.completion_tokens, both.parts, both.reported_cost) == (30, 3, (one, two), None)
    assert Usage().plus(one) == one
    assert both.plus(one).parts == (one, two, one)
    assert both.estimate(40, 4) == Usage(40, 4, estimated=True, service_tier="flex")
    assert one.as_record() == {
        "prompt_tokens": 10, "completion_tokens": 1, "cached_tokens": 0, "reasoning_tokens": 0, "estimated": False,
        "service_tier": "flex",
    }  # fmt: skip


@settings(max_examples=examples(300))
@given(
    prompt=st.integers(-2, 3) | st.sampled_from([True, None, "7", 2.0, 1 << 60]),
    total=st.integers(-2, 3) | st.sampled_from([True, None, 2.0, 1 << 60]),
    more=st.sampled_from([{}, {"completion_tokens": 1}, {"cost": 0.5}, {"prompt_tokens_details": {"image_tokens": 1}}]),
)
def test_usage_without_output_is_read_as_any_other(prompt: Any, total: Any, more: dict[str, Any]) -> None:
    for raw in ({"prompt_tokens": prompt, "total_tokens": total, **more}, {"prompt_tokens": prompt, **more}, prompt):
        assert read_of_inputs(raw) == read_usage(raw)


REPORTED_COUNT = st.integers(-1, 9) | st.integers(0, 10**10) | st.floats(0, 9) | st.sampled_from([3.0, 1e300, "7", True, None, "x"])
USUAL_COUNT = st.integers(0, 99)


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=fields)


def _of_anthropic(count: st.SearchStrategy[Any], text: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return _optional(
        input_tokens=count,
        output_tokens=count,
        cache_read_input_tokens=count,
        cache_creation_input_tokens=count,
        cache_creation=st.none() | _optional(ephemeral_5m_input_tokens=count, ephemeral_1h_input_tokens=count),
        output_tokens_details=st.none() | _optional(thinking_tokens=count),
        service_tier=text,
        speed=text,
    )


def _of_cohere(count: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    units = st.none() | _optional(input_tokens=count, output_tokens=count, search_units=count)
    return _optional(tokens=units, billed_units=units, cached_tokens=count)


TEXTS = st.none() | st.sampled_from(["", "standard", "fast", "x" * 50])


@settings(max_examples=examples(300))
@given(_of_anthropic(USUAL_COUNT, TEXTS) | _of_anthropic(REPORTED_COUNT, TEXTS | st.integers()) | st.none() | st.just([]))
def test_a_usage_of_anthropic_is_read_in_one_step_as_in_several(reported: Any) -> None:
    assert anthropic.read_reported(reported) == read_usage(openai_usage(reported), service_tier(reported))


@settings(max_examples=examples(300))
@given(_of_cohere(USUAL_COUNT) | _of_cohere(USUAL_COUNT.map(float)) | _of_cohere(REPORTED_COUNT) | st.none() | st.just([]))
def test_a_usage_of_cohere_is_read_in_one_step_as_in_several(reported: Any) -> None:
    assert cohere.read_reported(reported) == read_usage(cohere.openai_usage(reported))
