"""providers.rules.pairs and providers.rules.common: parameters that require or exclude each other, or should not be combined."""

from __future__ import annotations

import json
from typing import Any

import pytest

import providers
from providers.base import Adjustment, Body, Options, Refusal, Target
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.pairs import Discouraged, Excludes, Requires
from providers.rules.rule import Rule, compile_rules
from tests.providers.adapting import adapt
from tests.support.each import each


def _run(rule: Rule, request: dict[str, Any], *, strict: bool = False) -> tuple[dict[str, Any], list[Adjustment]]:
    body = Body(json.dumps(request).encode())
    adjustments = compile_rules((rule,), "m", unknown="pass").apply(body, "vendor", Options(strict=strict), {})
    return json.loads(body.encode()), adjustments


def test_a_parameter_without_the_one_it_requires_is_refused_unless_it_is_neutral() -> None:
    rule = Requires("top_logprobs", "logprobs")
    assert _run(rule, {"top_logprobs": 3, "logprobs": True}) == ({"top_logprobs": 3, "logprobs": True}, [])
    assert _run(rule, {"top_logprobs": 0})[0] == {}
    with pytest.raises(Refusal, match="it requires 'logprobs'"):
        _run(rule, {"top_logprobs": 3})


@pytest.mark.parametrize("kind", providers.OURS)
def test_no_adjustment_names_a_parameter_that_the_request_lacks(kind: str) -> None:
    """`logprobs` may be a number, from which a rule makes `top_logprobs`; `false` requests none."""
    body = Body(b'{"model":"m","messages":[{"role":"user","content":"x"}],"logprobs":false}')
    provider = providers.get(kind)
    made = provider.adapt(body, Target(f"{kind}/m", kind, provider, "m", "http://x/v1", "k"), Options())
    assert "top_logprobs" not in {adjustment.param for adjustment in made}


def test_an_excluded_parameter_is_dropped_and_refused_in_strict_mode() -> None:
    rule = Excludes("top_p", ("temperature",))
    sent, (adjustment,) = _run(rule, {"top_p": 0.5, "temperature": 1})
    assert (sent, adjustment.why) == ({"temperature": 1}, "not supported together with temperature")
    with pytest.raises(Refusal) as caught:
        _run(rule, {"top_p": 0.5, "temperature": 1}, strict=True)
    assert (caught.value.param, caught.value.code) == ("top_p", "unsupported_combination")


def test_a_discouraged_pair_is_sent_with_a_warning() -> None:
    rule = Discouraged("temperature", "top_p", "set one of the two")
    sent, (adjustment,) = _run(rule, {"top_p": 0.5, "temperature": 1}, strict=True)
    assert (sent, adjustment.action) == ({"top_p": 0.5, "temperature": 1}, "warn")


def test_the_common_rules_are_applied_by_the_gateway_itself() -> None:
    body = Body(b'{"messages":[],"timeout_microseconds":5,"context_length_exceeded_behavior":"truncate"}')
    rules = compile_rules((*GATEWAY_RULES, *CONTEXT_POLICY), "m", unknown="pass")
    actions = [(adjustment.param, adjustment.action) for adjustment in rules.apply(body, "vendor", Options(), {})]
    assert ("timeout_microseconds", "enforce_locally") in actions
    assert ("context_length_exceeded_behavior", "drop") in actions
    assert json.loads(body.encode()) == {"messages": []}


@each("cap", ["max_tokens", "max_completion_tokens"])
@each("least", ["min_tokens", "min_completion_tokens"])
@each("kind", sorted(providers.OURS))
def test_a_minimum_above_the_cap_is_never_sent(kind: str, least: str, cap: str) -> None:
    adapted = adapt(kind, {least: 80, cap: 50})
    sent = [adapted.sent[name] for name in ("min_tokens", "min_completion_tokens") if name in adapted.sent]
    assert sent in ([], [50])
    assert any(param == least and action in ("clamp", "drop") for param, action in adapted.actions())
    with pytest.raises(Refusal):
        adapt(kind, {least: 80, cap: 50}, strict=True)
    assert not any(action == "clamp" for _, action in adapt(kind, {least: 50, cap: 50}).actions())
