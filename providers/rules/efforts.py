"""Reasoning efforts: their order, and the nearest one that a model supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ORDER = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def nearest_effort(effort: str, efforts: Sequence[str]) -> str:
    """Return the supported effort that is nearest to `effort`; of two equally near, the lower one.

    Only `none` becomes `none`: a caller that asks for little reasoning still asks for some. A model without `none`
    gets its lowest effort.
    """
    rank = ORDER.index(effort)
    candidates = [other for other in ORDER if other in efforts and (other != "none" or effort == "none")]
    return min(candidates, key=lambda other: abs(ORDER.index(other) - rank))


def nearest_efforts(efforts: Sequence[str]) -> Mapping[str, str]:
    """Return the replacement of each effort that is not supported."""
    return {effort: nearest_effort(effort, efforts) for effort in ORDER if effort not in efforts}
