"""providers.rules.other_forms, advice and schemas: each rule alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.anthropic.schemas import FormatAsOutputConfig
from providers.base import Adjustment, Body, Options
from providers.rules.advice import NoEffect
from providers.rules.other_forms import CountedLogprobs, PredictionText
from providers.rules.rule import Accepts, CompiledRules, Rule


def applied(rule: Rule, body: dict[str, Any], *, defines: bool = True) -> tuple[dict[str, Any], list[Adjustment]]:
    """Return the body after one rule, at a provider that has the parameters of the body or none."""
    rules = (Accepts(" ".join(body)), rule) if defines else (rule,)
    result = Body(json.dumps(body).encode())
    adjustments = CompiledRules(rules, unknown="drop").apply(result, "Vendor", Options(), {})
    return json.loads(result.encode()), adjustments


@pytest.mark.parametrize("rule", [CountedLogprobs(), PredictionText()])
def test_a_provider_without_the_parameter_gets_it_in_no_form(rule: Rule) -> None:
    body, adjustments = applied(rule, {rule.param: 3}, defines=False)
    assert (body, [(each.param, each.action) for each in adjustments]) == ({}, [(rule.param, "drop")])


@pytest.mark.parametrize("value", [True, False, None])
def test_a_boolean_as_logprobs_stays_as_it_is(value: bool | None) -> None:
    assert applied(CountedLogprobs(), {"logprobs": value}) == ({"logprobs": value}, [])


def test_top_logprobs_win_over_a_number_as_logprobs() -> None:
    body, adjustments = applied(CountedLogprobs(), {"logprobs": 3, "top_logprobs": 1})
    assert (body, len(adjustments)) == ({"logprobs": True, "top_logprobs": 1}, 1)


def test_a_value_without_effect_is_sent_with_a_warning() -> None:
    rule = NoEffect("tier", ("a", "b"))
    assert applied(rule, {"tier": "a"}) == ({"tier": "a"}, [])
    body, adjustments = applied(rule, {"tier": "c"})
    why = "it has an effect upstream only with the value a or b"
    assert (body, adjustments[0].action, adjustments[0].why) == ({"tier": "c"}, "warn", why)


def test_a_schema_becomes_anthropics_output_format() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    value = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body, _ = applied(FormatAsOutputConfig("response_format"), {"response_format": value})
    assert body == {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
