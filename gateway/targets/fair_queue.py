"""The queue of a target: calls that wait for a slot, served in proportion to the priorities of their keys.

Each key with waiting calls has a tag, the tokens that it was served divided by its priority. The key with the lowest tag
is served next, and its own calls in order of arrival. A key that joins gets at least the tag of the key that was served
last, so a key cannot save up a claim while it sends nothing. This is start-time fair queuing (Goyal, Vin and Cheng, 1996)
with the tokens of a call as its length. The output of a call is unknown while it waits, so the tag grows by an expected
number of tokens, which is corrected when the call ends (Sheng et al., "Fairness in serving large language models", 2024).

When the queue becomes empty, all tags are dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count
from typing import NamedTuple

FIRST_EXPECTED_OUTPUT = 256.0
"""Expected output tokens of a call before any queued call of the target has ended."""
OUTPUT_SMOOTHING = 0.1
MAX_SHOWN_OWNERS = 20
MIN_STALE_ENTRIES = 64


class Claim(NamedTuple):
    """The values that determine the place of a call in the queue."""

    owner: str
    """The key, by name."""
    priority: int
    tokens: int
    """The expected tokens of the call."""


class _Owner:
    """The waiting calls of one key, oldest first."""

    __slots__ = ("calls", "name", "priority", "tag")

    def __init__(self, name: str) -> None:
        self.name = name
        self.priority = 1
        self.tag = 0.0
        self.calls: deque[Ticket] = deque()


class Ticket:
    """One call in the queue."""

    __slots__ = ("admitted", "number", "owner", "tokens")

    def __init__(self, owner: _Owner, tokens: int, number: int) -> None:
        self.owner = owner
        self.tokens = max(1, tokens)
        self.number = number
        self.admitted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """True when the call gets a slot, False when it is rejected in favour of another call."""


class FairQueue:
    """The calls that wait for a slot of one target."""

    def __init__(self) -> None:
        self.expected_output = FIRST_EXPECTED_OUTPUT
        """Decaying average of the output tokens of calls that waited."""
        self._owners: dict[str, _Owner] = {}
        self._by_tag: list[tuple[float, int, _Owner]] = []  # a heap; entries with an outdated tag are skipped
        self._numbers = count()
        self._now = 0.0  # the tag of the key that was served last
        self._size = 0

    def __len__(self) -> int:
        """Return the number of waiting calls."""
        return self._size

    def waiting_by_owner(self) -> dict[str, int]:
        """Return the number of waiting calls of each key, for the keys with the most calls."""
        counts = sorted(((len(each.calls), each.name) for each in self._owners.values() if each.calls), reverse=True)
        return {name: number for number, name in counts[:MAX_SHOWN_OWNERS]}

    @property
    def owners(self) -> int:
        """Number of keys with waiting calls."""
        return sum(1 for each in self._owners.values() if each.calls)

    def add(self, claim: Claim) -> Ticket:
        """Add a call."""
        owner = self._owners.get(claim.owner)
        if owner is None:
            owner = self._owners[claim.owner] = _Owner(claim.owner)
        owner.priority = claim.priority
        ticket = Ticket(owner, claim.tokens, next(self._numbers))
        owner.calls.append(ticket)
        self._size += 1
        if len(owner.calls) == 1:
            owner.tag = max(owner.tag, self._now)
            self._push(owner)
        return ticket

    def pop(self) -> Ticket:
        """Remove and return the call that is served next. Raise IndexError if no call waits."""
        while True:
            tag, _, owner = heappop(self._by_tag)
            if owner.calls and tag == owner.tag:
                break
        ticket = owner.calls.popleft()
        self._now = max(self._now, tag)
        owner.tag = tag + ticket.tokens / owner.priority
        if owner.calls:
            self._push(owner)
        self._removed()
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Remove a call that no longer waits. Do nothing if it is not in the queue."""
        if ticket in ticket.owner.calls:
            ticket.owner.calls.remove(ticket)
            self._removed()

    def shed(self, capacity: int) -> Ticket:
        """Remove and return one call of a queue with more than `capacity` calls.

        The capacity is shared in proportion to the priorities. Of the keys that have more calls than their share, the one with
        the lowest priority loses its latest call; of several with the same priority, the one with the most calls.
        """
        waiting = [each for each in self._owners.values() if each.calls]
        total = sum(each.priority for each in waiting)
        over = [each for each in waiting if len(each.calls) * total > capacity * each.priority]
        owner = min(over, key=lambda each: (each.priority, -len(each.calls), -each.calls[-1].number))
        ticket = owner.calls.pop()
        self._removed()
        return ticket

    def correct(self, ticket: Ticket, tokens: int, output: int) -> None:
        """After a call has ended, replace its expected tokens with `tokens`, of which `output` are output tokens."""
        self.expected_output += (output - self.expected_output) * OUTPUT_SMOOTHING
        owner = ticket.owner
        if self._owners.get(owner.name) is owner:
            owner.tag += (max(1, tokens) - ticket.tokens) / owner.priority
            if owner.calls:
                self._push(owner)

    def _push(self, owner: _Owner) -> None:
        heappush(self._by_tag, (owner.tag, next(self._numbers), owner))
        if len(self._by_tag) > 2 * self._size + MIN_STALE_ENTRIES:
            self._prune()

    def _prune(self) -> None:
        """Drop outdated entries, and keys without waiting calls whose tag no longer matters."""
        self._owners = {name: each for name, each in self._owners.items() if each.calls or each.tag > self._now}
        self._by_tag = [(each.tag, next(self._numbers), each) for each in self._owners.values() if each.calls]
        heapify(self._by_tag)

    def _removed(self) -> None:
        self._size -= 1
        if not self._size:
            self._owners.clear()
            self._by_tag.clear()
            self._now = 0.0
