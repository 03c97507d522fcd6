"""How a split chooses among its targets: by weight, by pace, by load, by price, or the same one for the same conversation.

    weighted     a draw by weight
    latency      of two drawn by weight, the one that is expected to say its first token sooner, calls under way counted in
    least_busy   of two drawn by weight, the one with fewer calls under way for its weight
    cost         the cheapest for this request; of several, a draw by weight
    session      rendezvous hashing: each target gets a score from the session's key and its name, the highest wins

Two drawn at random are nearly as good as the best of all, and do not send everybody to the same one at the same moment
(Mitzenmacher, "The power of two choices in randomized load balancing", 2001). With rendezvous hashing a target that comes
takes its share of the sessions from all others, and one that leaves gives back its own; no other session moves (Thaler and
Ravishankar, 1998; the weighted score -w / ln h is due to Schindelhauer and Schomaker, 2005).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar


class Weighted(Protocol):
    """One of the choices of a split."""

    @property
    def name(self) -> str:
        """What the file calls it."""
        ...

    @property
    def weight(self) -> float:
        """Its share, more than 0."""
        ...


T = TypeVar("T", bound=Weighted)
Draw = Callable[[], float]
"""A number from 0 up to 1."""


def by_weight(choices: Sequence[T], draw: Draw) -> T:
    """One of them, by weight."""
    at = draw() * sum(one.weight for one in choices)
    for one in choices:
        at -= one.weight
        if at < 0:
            return one
    return choices[-1]


def of_two(choices: Sequence[T], draw: Draw, load: Callable[[T], float]) -> T:
    """The one with less load of two that were drawn by weight."""
    first = by_weight(choices, draw)
    if len(choices) == 1:
        return first
    second = by_weight([one for one in choices if one is not first], draw)
    return second if load(second) < load(first) else first


def cheapest(choices: Sequence[T], draw: Draw, price: Callable[[T], float]) -> T:
    """The one with the lowest price; of several, by weight."""
    prices = [price(one) for one in choices]
    lowest = min(prices)
    return by_weight([one for one, each in zip(choices, prices, strict=True) if each <= lowest], draw)


def by_session(choices: Sequence[T], key: bytes) -> T:
    """The same one for the same `key`, as long as it is there."""
    return max(choices, key=lambda one: score(one.name, one.weight, key))


def score(name: str, weight: float, key: bytes) -> float:
    """How much a target wants a session; each target wins by its weight's share over all keys."""
    digest = blake2b(name.encode("utf-8", "surrogatepass"), key=blake2b(key, digest_size=32).digest(), digest_size=8).digest()
    return -weight / math.log((int.from_bytes(digest) + 0.5) / 2**64)
