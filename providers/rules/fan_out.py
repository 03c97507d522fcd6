"""Upstream requests and seeds for calls that request several choices, at providers that return one choice per request."""

from __future__ import annotations

from providers.base import Adjustment, Body

SEED_NAMES = ("seed", "random_seed")
"""Names of the seed in an adapted body; the second is Mistral's."""


def fan_out(body: Body, n: int) -> list[Body]:
    """Return the bodies of `n` upstream requests for an adapted body with a `fan_out` adjustment.

    If `seed` is a list, each request gets one of its seeds. A single seed (or the provider's default) is incremented,
    because the same seed would produce the same text. Without a seed, the upstream chooses one for each request.
    """
    name = next((name for name in SEED_NAMES if name in body), SEED_NAMES[0])
    seed = body.get(name)
    bodies = []
    for index in range(n):
        copy = body.copy()
        if type(seed) is list:
            copy.set(name, seed[index])
        elif type(seed) is int and index:
            copy.set(name, _next_seed(seed, index))
        bodies.append(copy)
    return bodies


def seeds_sent(body: Body, n: int) -> Adjustment | None:
    """Return the adjustment that reports the seeds of `n` upstream requests, or None if the body has no seed."""
    name = next((name for name in SEED_NAMES if body.get(name) is not None), None)
    if name is None:
        return None
    seeds = [each.get(name) for each in fan_out(body, n)]
    return Adjustment("seed", "reshape", body.get(name), seeds, "each upstream request has its own seed")


def _next_seed(seed: int, index: int) -> int:
    following = seed + index
    return following if following < 2**63 else following - 2**64
