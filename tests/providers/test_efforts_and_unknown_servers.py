"""DeepSeek's efforts, and the little that is decided for servers of which nothing is known."""

from __future__ import annotations

import json
from typing import Any

import pytest

import providers
from providers.base import Body, Options, Refusal, Target


def adapted(kind: str, *, strict: bool = False, **more: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """What is sent, and what is reported."""
    found = providers.get(kind)
    target = Target(f"{kind}/m", kind, found, "deepseek-v4-pro", found.default_base_url or "http://localhost:1/v1", "KEY")
    options = Options(strict=strict)
    body = Body(json.dumps({"model": "deepseek-v4-pro", "messages": [{"role": "user", "content": "hi"}], **more}).encode())
    adjustments = found.adapt(body, target, options)
    return json.loads(found.encode(body, target, options).body), [(one.param, one.action) for one in adjustments]


@pytest.mark.parametrize("effort", ["low", "high", "max"])
def test_an_effort_that_deepseek_knows_passes(effort: str) -> None:
    sent, told = adapted("deepseek", strict=True, reasoning_effort=effort)
    assert (sent["reasoning_effort"], told) == (effort, [])


@pytest.mark.parametrize(("effort", "nearest"), [("minimal", "low"), ("medium", "high"), ("xhigh", "high")])
def test_other_efforts_become_the_one_that_deepseek_reads_them_as(effort: str, nearest: str) -> None:
    sent, told = adapted("deepseek", reasoning_effort=effort)
    assert (sent["reasoning_effort"], told) == (nearest, [("reasoning_effort", "clamp")])
    with pytest.raises(Refusal):
        adapted("deepseek", strict=True, reasoning_effort=effort)


def test_no_effort_still_switches_thinking_off() -> None:
    sent, _ = adapted("deepseek", reasoning_effort="none")
    assert sent["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" not in sent


@pytest.mark.parametrize(
    ("caps", "sent_cap"), [({"max_tokens": 5, "max_completion_tokens": 3}, 3), ({"max_tokens": 2, "max_completion_tokens": 9}, 2)]
)
def test_of_two_caps_the_smaller_goes_to_an_unknown_server(caps: dict[str, int], sent_cap: int) -> None:
    sent, told = adapted("openai-compatible", **caps)
    assert sent["max_tokens"] == sent_cap
    assert "max_completion_tokens" not in sent
    assert told
    with pytest.raises(Refusal) as caught:
        adapted("openai-compatible", strict=True, **caps)
    assert caught.value.code == "conflicting_parameters"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_one_cap_passes_under_its_own_name(name: str) -> None:
    sent, told = adapted("openai-compatible", **{name: 7})
    assert (sent[name], told) == (7, [])


def test_an_unknown_server_gets_one_seed_a_call() -> None:
    assert adapted("openai-compatible", seed=[7])[0]["seed"] == 7
    sent, told = adapted("openai-compatible", seed=[1, 2], n=2)
    assert "n" not in sent
    assert ("n", "fan_out") in told
    assert adapted("openai-compatible", seed=3, n=2) == (adapted("openai-compatible", seed=3, n=2)[0], [])
    assert adapted("openai-compatible", seed=3, n=2)[0]["n"] == 2
