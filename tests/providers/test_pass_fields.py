"""`pass` of a provider: fields that reach the upstream unchanged, whatever its rules are."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import providers
from providers.base import Body, Options, Refusal
from tests.providers.adapting import HI, target_for
from tests.support.each import each
from tests.support.search import examples

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("search_mode", "temperature", "reasoning_effort", "top_k", "stop", "logit_bias", "user", "response_format", "tools")


def sent(kind: str, request: dict[str, Any], passes: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """Return the adapted body, and the parameters of its adjustments."""
    target = msgspec.structs.replace(target_for(kind), pass_fields=passes)
    body = Body(json.dumps({"model": "a", "messages": HI, **request}).encode())
    adjustments = target.kind.adapt(body, target, Options(strict=True))
    return json.loads(body.encode()), [adjustment.param for adjustment in adjustments]


@pytest.mark.parametrize("kind", sorted(set(providers.OURS) - {"friendli"}))
@settings(max_examples=examples(20), deadline=None)
@given(field=st.sampled_from(FIELDS), value=VALUES.filter(lambda value: value is not None))
def test_a_passed_field_reaches_the_upstream_unchanged_and_unreported(kind: str, field: str, value: Any) -> None:
    body, params = sent(kind, {field: value}, ("a_new_field", field))
    assert body[field] == value
    assert field not in params


@each("kind", ["cerebras", "anthropic", "openai", "siati"])
def test_only_the_named_fields_pass(kind: str) -> None:
    with pytest.raises(Refusal, match="another_new_field"):
        sent(kind, {"a_new_field": 1, "another_new_field": 1}, ("a_new_field",))


def test_the_choice_of_passed_tools_passes_with_them() -> None:
    request = {"tools": [{"type": "new_kind"}], "tool_choice": {"type": "new_kind"}, "parallel_tool_calls": False}
    body, params = sent("gemini", request, ("tools",))
    assert {name: body[name] for name in request} == request
    assert params == []
