"""Helpers for tables of models: the nearest supported effort, and the warning for newer models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from providers.rules.rule import Rule, Work

ORDER = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def nearest_effort(effort: str, efforts: Sequence[str]) -> str:
    """Return the supported effort nearest to `effort`; if two are equally near, the lower one.

    Only `none` becomes `none`: a caller that requests little reasoning still requests some. A model without `none`
    gets its lowest effort.
    """
    rank = ORDER.index(effort)
    candidates = [other for other in ORDER if other in efforts and (other != "none" or effort == "none")]
    return min(candidates, key=lambda other: abs(ORDER.index(other) - rank))


def nearest_efforts(efforts: Sequence[str]) -> Mapping[str, str]:
    """Return the replacement of each effort that is not supported."""
    return {effort: nearest_effort(effort, efforts) for effort in ORDER if effort not in efforts}


class NewerModel(Rule, frozen=True):
    """Warns of a model that is newer than the table of models."""

    param: str = "model"
    like: str = ""
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    def apply(self, work: Work) -> None:
        """Warn that the rules of the newest known model apply."""
        work.report(self.param, "warn", why=f"this model is newer than the gateway's table; it is treated like {self.like}")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "advice": f"treated like `{self.like}`"}}
