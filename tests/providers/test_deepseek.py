"""providers.deepseek: the reasoning efforts that pass, and the replacements of the others."""

from __future__ import annotations

import pytest

from providers.base import Refusal
from providers.deepseek import DEEPSEEK
from providers.usage import normalize_usage
from tests.providers.adapting import Adapted, adapt


def _adapted(effort: str, *, strict: bool = False) -> Adapted:
    return adapt(DEEPSEEK.type, {"reasoning_effort": effort}, model="deepseek-v4-pro", strict=strict)


@pytest.mark.parametrize("effort", ["low", "high", "max"])
def test_supported_effort_passes(effort: str) -> None:
    adapted = _adapted(effort, strict=True)
    assert (adapted.sent["reasoning_effort"], adapted.actions()) == (effort, [])


@pytest.mark.parametrize(("effort", "nearest"), [("minimal", "low"), ("medium", "high"), ("xhigh", "high")])
def test_unsupported_effort_is_mapped_to_the_nearest(effort: str, nearest: str) -> None:
    adapted = _adapted(effort)
    assert (adapted.sent["reasoning_effort"], adapted.actions()) == (nearest, [("reasoning_effort", "clamp")])
    with pytest.raises(Refusal):
        _adapted(effort, strict=True)


def test_effort_none_disables_thinking() -> None:
    sent = _adapted("none").sent
    assert sent["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" not in sent


def test_cached_tokens_are_in_openai_details() -> None:
    usage = normalize_usage({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "prompt_cache_hit_tokens": 4})
    assert usage["prompt_tokens_details"] == {"cached_tokens": 4}
    assert normalize_usage(usage) is usage, "nothing is left to move"
