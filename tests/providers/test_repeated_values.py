"""Values that callers send again and again: what is known about them changes no request, no report and no refusal."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

import providers
from gateway.dialects.parameters import check_parameters
from gateway.errors import BadRequest
from gateway.tokens.count_cache import CountCache
from providers.base import Adjustment, Body, Options, Refusal
from providers.body import MAX_SMALL_BYTES
from providers.rules import rule
from providers.rules.rule import CompiledRules, Rule, Work
from tests.providers.adapting import HI, adapt_with, target_for
from tests.support.search import examples

PADDING = "x" * MAX_SMALL_BYTES


def function(number: int, **more: Any) -> dict[str, Any]:
    """Return a function whose JSON is large."""
    return {"name": f"f{number}", "description": PADDING, "parameters": {"type": "object", "properties": {}}, **more}


TOOLS: list[list[dict[str, Any]]] = [
    [{"type": "function", "function": function(1)}],
    [{"type": "function", "function": function(1)}, {"type": "function", "function": function(2, strict=True)}],
    [{"type": "function", "function": function(1, strict=True, parameters={"type": "object", "properties": {"a": {"minimum": 3}}})}],
    [{"type": "function", "function": function(1, cache_control={"type": "ephemeral"})}],
    [{"type": "function", "function": function(1, parameters=None)}],
    [{"type": "function", "function": function(1), "unknown": 1}],
    [{"type": "function", "function": function(1)}, {"type": "function", "function": function(1)}],
    [{"type": "function", "function": function(1)}, {"type": "function", "function": function(1, parameters={})}],
    [{"type": "function", "function": function(1, parameters={"anyOf": [{"type": "object"}]})}],
    [{"type": "function", "function": function(1, name="not a name!")}],
    [{"type": "custom", "custom": {"name": "c", "description": PADDING}}],
    [{"function": function(1)}],
    [{"type": "web_search", "padding": PADDING}],
]
OTHERS: list[dict[str, Any]] = [
    {},
    {"tool_choice": "auto", "parallel_tool_calls": False},
    {"tool_choice": {"type": "function", "function": {"name": "f1"}}},
    {"tool_choice": {"type": "function", "function": {"name": "f9"}}},
    {"tool_choice": "none", "stream": True},
    {"reasoning_effort": "high"},
    {"functions": [function(3)], "function_call": "auto"},
]
Outcome = tuple[dict[str, Any], list[Adjustment], dict[str, Any]] | tuple[str, str | None, str | None]


def outcome(kind: str, model: str, request: dict[str, Any], *, strict: bool) -> Outcome:
    """Return the request that is sent, the adjustments and the memo, or the refusal."""
    options = Options(strict=strict, stream=request.get("stream") is True, memo={})
    try:
        adapted = adapt_with(kind, request, options, model=model)
    except Refusal as refusal:
        return str(refusal), refusal.param, refusal.code
    return adapted.sent, adapted.adjustments, options.memo


@pytest.mark.parametrize("kind", [name for name in providers.types() if name != "local"])
def test_rules_do_the_same_to_values_that_they_know(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(kind)
    cases = [({"tools": tools, **other}, strict) for tools in TOOLS for other in OTHERS for strict in (False, True)]
    draw.shuffle(cases)
    for model in ("example", "gpt-5.1"):
        known = [outcome(kind, model, request, strict=strict) for _ in range(2) for request, strict in cases[: examples(len(cases))]]
        monkeypatch.setattr(CompiledRules, "_apply_once", lambda self, each, work, key: each.apply(work))
        fresh = [outcome(kind, model, request, strict=strict) for request, strict in cases[: examples(len(cases))]]
        monkeypatch.undo()
        assert known == fresh * 2


class Recorded(Rule, frozen=True):
    """Counts its applications, and has an effect on values that name it."""

    repeats = True

    def apply(self, work: Work) -> None:
        """Have the effect that the value names."""
        applied.append(work.body.raw(self.param) or b"")
        effect = (work.body.get(self.param) or [""])[0]
        if effect == "report":
            work.report(self.param, "warn")
        elif effect == "change":
            work.body.set(self.param, ["changed"])
        elif effect == "memo":
            work.options.memo["a"] = 1
        elif effect == "refuse":
            raise work.refuse(self.param, "why")


applied: list[bytes] = []


@pytest.mark.parametrize("effect", ["none", "report", "change", "memo", "refuse"])
def test_a_rule_is_not_applied_again_to_large_values_on_which_it_had_no_effect(effect: str) -> None:
    rules = CompiledRules([Recorded("tools")], unknown="pass")
    applied.clear()
    for padding in (PADDING, PADDING, PADDING + "y", ""):
        source = json.dumps({"model": "m", "messages": HI, "tools": [effect, padding]}).encode()
        try:
            rules.apply(Body(source), "p", Options(memo={}), {})
        except Refusal:
            assert effect == "refuse"
    assert len(applied) == (3 if effect == "none" else 4)


def test_a_subclass_of_a_rule_is_applied_every_time() -> None:
    class Derived(Recorded, frozen=True):
        """May depend on more than its superclass."""

    rules = CompiledRules([Derived("tools")], unknown="pass")
    applied.clear()
    for _ in range(2):
        rules.apply(Body(json.dumps({"tools": ["none", PADDING]}).encode()), "p", Options(memo={}), {})
    assert len(applied) == 2


def test_the_values_that_a_rule_knows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "MAX_UNAFFECTED", 3)
    rules = CompiledRules([Recorded("tools")], unknown="pass")
    for number in range(20):
        rules.apply(Body(json.dumps({"tools": [str(number), PADDING]}).encode()), "p", Options(memo={}), {})
        assert len(rules._unaffected) <= 3


def test_accepted_values_are_not_checked_again_and_rejected_ones_are() -> None:
    def source(tools: list[Any]) -> bytes:
        return json.dumps({"model": "m", "messages": HI, "tools": tools}).encode()

    accepted = Body(source(TOOLS[0]))
    check_parameters(accepted)
    again = Body(source(TOOLS[0]))
    check_parameters(again)
    assert "tools" not in again._values, "the tools of an agent are not decoded"
    for _ in range(2):
        with pytest.raises(BadRequest, match="must be an object with a name"):
            check_parameters(Body(source([{"type": "function", "padding": PADDING}])))


def test_known_tools_are_adapted_and_counted_without_decoding() -> None:
    target = target_for("openai", "gpt-4o")
    for _ in range(2):
        body = Body(json.dumps({"model": "alias", "messages": HI, "tools": TOOLS[0], "tool_choice": "auto"}).encode())
        check_parameters(body)
        assert target.kind.adapt(body, target, Options(memo={})) == []
    assert "tools" not in body._values
    assert CountCache().counts([body.raw("tools") or b""], lambda texts: [len(text) for text in texts]) == [len(json.dumps(TOOLS[0]))]
