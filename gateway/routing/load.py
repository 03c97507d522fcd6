"""The load of an option of a split: attempts in flight, requests of other processes, and the expected time to first token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.targets.candidate import Candidate


class Option(Protocol):
    """An option of a split."""

    @property
    def name(self) -> str:
        """The name in the configuration."""
        ...

    @property
    def first_candidates(self) -> tuple[Candidate, ...]:
        """The candidates that the option may try first."""
        ...


def attempts_in_flight(option: Option) -> int:
    """Return the number of attempts in flight at all candidates that the option may try first."""
    return sum(candidate.backend.latency.in_flight for candidate in option.first_candidates)


def load_at_servers(options: Sequence[Option]) -> Callable[[Option], int]:
    """Return a function that returns the load of an option: its attempts in flight, plus the requests of other processes.

    The requests of others count only if the servers of all options have reported them recently; otherwise, servers that report
    them would seem busier than those that do not.
    """
    others: dict[str, int] = {}
    for option in options:
        counts = [candidate.backend.latency.others for candidate in option.first_candidates]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            return attempts_in_flight
        others[option.name] = sum(known)
    return lambda option: attempts_in_flight(option) + others[option.name]


def expected_wait(option: Option, *, stream: bool) -> float:
    """Return the shortest expected time to first token, in seconds, of the candidates that the option may try first."""
    return min(candidate.backend.latency.expected_wait(stream=stream) for candidate in option.first_candidates)
