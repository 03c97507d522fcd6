"""Rules for completions. tests/flows/test_completions_flow.py tries them at each provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

import providers
from providers.base import Adjustment, Body, Options, Refusal
from providers.completion_table import COMPLETION_FIELDS, ENGINES, ONE_TEXT, TEXTS
from providers.openai_compatible import OpenAICompatible
from providers.rules.completions import completion_rules
from tests.providers.adapting import target_for


def adapted(kind: str, strict: bool = False, **fields: Any) -> tuple[dict[str, Any], list[Adjustment]]:
    """Return the body that is sent, and the adjustments."""
    target = target_for(kind)
    body = Body(json.dumps({"model": "m", "prompt": "Once", **fields}).encode())
    adjustments = target.kind.adapt(body, target, Options(strict=strict, operation="completions"))
    return json.loads(body.encode()), adjustments


def test_every_row_is_about_a_provider_with_completions() -> None:
    for kind in {*COMPLETION_FIELDS, *ENGINES, *ONE_TEXT, *TEXTS}:
        provider = providers.get(kind)
        assert isinstance(provider, OpenAICompatible)
        assert "completions" in provider.wire.paths
        assert completion_rules(kind)
        assert {"model", "prompt", "max_tokens", "stream"} <= {"model", "prompt", "max_tokens", "stream"} & set(
            COMPLETION_FIELDS.get(kind, "model prompt max_tokens stream").split()
        )


@pytest.mark.parametrize("kind", sorted({*COMPLETION_FIELDS, "vllm", "openai-compatible"}))
def test_plain_completion_loses_nothing_in_strict_mode(kind: str) -> None:
    sent, adjustments = adapted(kind, strict=True, max_tokens=5, temperature=1, top_p=0.5)
    assert sent == {"model": "m", "prompt": "Once", "max_tokens": 5, "temperature": 1, "top_p": 0.5}
    assert adjustments == []


@pytest.mark.parametrize("kind", sorted(ENGINES))
def test_engines_get_the_default_cap_of_completions(kind: str) -> None:
    sent, adjustments = adapted(kind)
    assert sent["max_tokens"] == 16
    assert [(each.param, each.action) for each in adjustments] == [("max_tokens", "set_default")]


def test_the_local_engine_refuses_an_answer_without_tokens() -> None:
    with pytest.raises(Refusal) as refused:
        adapted("local", max_tokens=0)
    assert refused.value.param == "max_tokens"
    assert adapted("local", max_tokens=1)[0]["max_tokens"] == 1


@pytest.mark.parametrize("kind", sorted({*COMPLETION_FIELDS, *ENGINES, "vllm"}))
def test_time_limit_is_the_gateways_own(kind: str) -> None:
    sent, adjustments = adapted(kind, max_tokens=1, timeout_microseconds=5_000_000)
    assert "timeout_microseconds" not in sent
    assert ("timeout_microseconds", "enforce_locally") in [(each.param, each.action) for each in adjustments]


def test_together_gets_stop_strings_as_a_list_and_openai_at_most_five_log_probabilities() -> None:
    assert adapted("together", stop="x")[0]["stop"] == ["x"]
    assert adapted("openai", logprobs=9)[0]["logprobs"] == 5
