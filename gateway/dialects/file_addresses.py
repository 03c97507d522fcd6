"""Refuses files that a request gives by their addresses if the target does not fetch files."""

from __future__ import annotations

from collections.abc import Sequence

from providers.base import Refusal, Target

TYPES_THAT_FETCH = frozenset({"anthropic"})
"""Provider types that read a file from its address. Source: anthropic 2.14.0 (URLPDFSource)."""


def refuse_addresses(params: Sequence[str], target: Target, instead: str) -> None:
    """Raise Refusal for the first of these parameters unless the target fetches files. `instead` states the alternative for the caller."""
    if params and target.kind.type not in TYPES_THAT_FETCH:
        raise Refusal(f"'{params[0]}' is not supported by {target.name}: {instead}.", params[0], "unsupported_content")
