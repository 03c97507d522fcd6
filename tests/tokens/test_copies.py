"""The number of requests that repeat the prompt of a call, which depends on its choices and its target."""

from __future__ import annotations

import json
from typing import Any

import providers
from gateway.tokens.copies import prompt_copies
from providers.base import Body, Target
from tests.support.each import each


@each(
    ("kind", "fields", "copies"),
    [
        ("openai", {}, 1),
        ("openai", {"n": 3}, 1),
        ("openai", {"n": 3, "seed": 1}, 1),
        ("openai", {"n": 3, "seed": [1, 2, 3]}, 3),
        ("anthropic", {}, 1),
        ("anthropic", {"n": 1}, 1),
        ("anthropic", {"n": None}, 1),
        ("anthropic", {"n": 3}, 3),
        ("groq", {"n": 2}, 2),
        ("vllm", {"n": 2}, 1),
    ],
)
def test_the_prompt_is_sent_for_each_choice_to_a_target_with_one_choice_per_request(kind: str, fields: dict[str, Any], copies: int) -> None:
    target = Target(f"{kind}/x", kind, providers.get(kind), "x", "http://localhost/v1")
    assert prompt_copies(Body(json.dumps({"model": "m", "messages": [], **fields}).encode()), target) == copies
