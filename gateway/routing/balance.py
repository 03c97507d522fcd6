"""Load balancing: the strategies by which a split chooses one of its options.

    weighted     a draw by weight
    latency      of two drawn by weight, the one with the shorter expected time to first token, attempts in flight included
    least_busy   of two drawn by weight, the one with fewer attempts in flight per weight
    cost         the cheapest for this request; among equals, a draw by weight
    session      rendezvous hashing: each option gets a score from the session and its name, and the highest score wins
    prefix       of the options that are not overloaded, the one that got the longest part of the prompt before; among equals, as session

The better of two random draws is nearly as good as the best of all, and does not send every call to the same target at the same moment
(Mitzenmacher, "The power of two choices in randomized load balancing", 2001). With rendezvous hashing, a new target takes its share of
the sessions from all others, and the sessions of a removed target go to the others; no other session moves (Thaler and Ravishankar,
1998; the weighted score -w / ln h is due to Schindelhauer and Schomaker, 2005). An option is overloaded if the call would raise its load,
in attempts or requests, above LOAD_BOUND times its share of the whole load, plus SPARE_CALLS (after Mirrokni, Thorup and Zadimoghaddam,
"Consistent hashing with bounded loads", 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar


class Weighted(Protocol):
    """An option of a split."""

    @property
    def name(self) -> str:
        """The name in the configuration."""
        ...

    @property
    def weight(self) -> float:
        """The weight, greater than 0."""
        ...


LOAD_BOUND = 1.25
SPARE_CALLS = 2
"""Attempts or requests beyond the bound: engines serve several in parallel, so a second or third call does not justify leaving a cache."""
T = TypeVar("T", bound=Weighted)
Draw = Callable[[], float]
"""Returns a random number in [0, 1)."""


def by_weight(options: Sequence[T], draw: Draw) -> T:
    """Draw one option by weight."""
    rest = draw() * sum(option.weight for option in options)
    for option in options:
        rest -= option.weight
        if rest < 0:
            return option
    return options[-1]


def of_two(options: Sequence[T], draw: Draw, load: Callable[[T], float]) -> T:
    """Draw two options by weight and return the one with less load."""
    first = by_weight(options, draw)
    if len(options) == 1:
        return first
    second = by_weight([option for option in options if option is not first], draw)
    return second if load(second) < load(first) else first


def cheapest(options: Sequence[T], draw: Draw, price: Callable[[T], float]) -> T:
    """Return the option with the lowest price; among equals, draw by weight."""
    prices = [price(option) for option in options]
    lowest = min(prices)
    return by_weight([option for option, each in zip(options, prices, strict=True) if each <= lowest], draw)


def by_prefix(options: Sequence[T], blocks: Sequence[bytes], matched: Callable[[T], int], load: Callable[[T], int]) -> T:
    """Return the option that got the most leading `blocks` of the prompt before, among those that are not overloaded.

    Among options that got the same number of blocks, rendezvous hashing of the first block that is new to them decides, so that
    processes with different histories choose alike. If no block is new to them, the last block is hashed.
    """
    allowed = LOAD_BOUND * (1 + sum(map(load, options))) / sum(option.weight for option in options)
    free = [option for option in options if load(option) + 1 <= math.ceil(allowed * option.weight) + SPARE_CALLS]
    lengths = [matched(option) for option in free]
    longest = max(lengths)
    best = [option for option, length in zip(free, lengths, strict=True) if length == longest]
    return by_session(best, blocks[min(longest, len(blocks) - 1)])


def by_session(options: Sequence[T], key: bytes) -> T:
    """Return the same option for the same `key`, as long as the options do not change."""
    return max(options, key=lambda option: score(option.name, option.weight, key))


def score(name: str, weight: float, key: bytes) -> float:
    """Return an option's score for a session.

    Over many sessions, the frequency with which an option wins is proportional to its weight.
    """
    digest = blake2b(name.encode("utf-8", "surrogatepass"), key=blake2b(key, digest_size=32).digest(), digest_size=8).digest()
    return -weight / math.log((int.from_bytes(digest) + 0.5) / 2**64)
