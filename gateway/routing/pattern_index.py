"""Finds the pattern of the configuration that matches a model name, in a time that does not depend on the number of models."""

from __future__ import annotations

from collections.abc import Iterable


class PatternIndex:
    """The patterns `prefix*` among the names of models, by the length of the prefix."""

    __slots__ = ("_lengths", "_patterns")

    def __init__(self, names: Iterable[str]) -> None:
        self._patterns = {name[:-1]: name for name in names if name.endswith("*")}
        self._lengths = sorted({len(prefix) for prefix in self._patterns}, reverse=True)

    def longest_match(self, name: str) -> str | None:
        """Return the pattern with the longest prefix of `name`, or None."""
        for length in self._lengths:
            if (pattern := self._patterns.get(name[:length])) is not None:
                return pattern
        return None
