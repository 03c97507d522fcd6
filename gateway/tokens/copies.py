"""The number of upstream requests that repeat a call's prompt."""

from __future__ import annotations

import functools

from gateway.tokens.inputs import choice_count
from providers.base import Body, Target


def prompt_copies(body: Body, target: Target) -> int:
    """Return how often the prompt is sent: once, or for each of `n` choices.

    It is sent for each choice if the target returns one choice per request, or if `seed` is a list.
    """
    if "n" not in body or (count := choice_count(body)) == 1:
        return 1
    return count if _returns_one_choice(target) or type(body.get("seed")) is list else 1


@functools.lru_cache(4096)
def _returns_one_choice(target: Target) -> bool:
    return bool(target.kind.capabilities(target.model).get("n", {}).get("action") == "fan_out")
