"""Helpers for tables of models: the nearest supported effort, and the warning for newer models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from providers.rules.rule import ForModels, Rule, Work
from providers.rules.values import OneOf

ORDER = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def nearest_effort(effort: str, efforts: Sequence[str]) -> str:
    """Return the supported effort nearest to `effort`, or the lower one if two are equally near.

    Only `none` becomes `none`: a caller that requests little reasoning still requests some. If the model does not
    support `none`, its lowest effort replaces it.
    """
    rank = ORDER.index(effort)
    candidates = [other for other in ORDER if other in efforts and (other != "none" or effort == "none")]
    return min(candidates, key=lambda other: abs(ORDER.index(other) - rank))


def nearest_efforts(efforts: Sequence[str]) -> Mapping[str, str]:
    """Return the replacement for each effort that is not supported."""
    return {effort: nearest_effort(effort, efforts) for effort in ORDER if effort not in efforts}


class NewerModel(Rule, frozen=True):
    """Warns that a model is newer than the table of models."""

    param: str = "model"
    like: str = ""
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    def apply(self, work: Work) -> None:
        """Warn that the rules of the newest known model apply."""
        work.report(self.param, "warn", why=f"this model is newer than the gateway's table; it is treated like {self.like}")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "advice": f"treated like `{self.like}`"}}


class NewerThan(ForModels, frozen=True):
    """Rules for models that are newer than the known versions of their family: the rules of the newest known version, and a warning.

    A version must follow one of `prefixes`: `4.6`, `4-1`, or `5p2` as Fireworks writes it. A date does
    not count as a minor version.
    """

    newest: tuple[int, int]
    like: str

    def matches(self, model: str) -> bool:
        """Return whether the model belongs to the family and has a version above the newest known one."""
        prefix = next((prefix for prefix in self.prefixes if model.startswith(prefix)), None)
        found = None if prefix is None else _VERSION.match(model, len(prefix))
        return found is not None and (int(found[1]), int(found[2] or 0)) > self.newest

    def rules_for(self, model: str) -> tuple[Rule, ...]:
        return (NewerModel(like=self.like), *self.rules)


_VERSION = re.compile(r"(\d{1,2})(?:[.p-](\d{1,2})(?![\da-z]))?(?!\d)")


def efforts_rule(efforts: tuple[str, ...], *, accepts_numbers: bool = False, **nearest: str) -> OneOf:
    """Return the rule for a model's efforts: other efforts become the nearest supported effort, or the effort given in `nearest`."""
    near = {**nearest_efforts(efforts), **nearest}
    return OneOf("reasoning_effort", efforts, nearest=near, accepts_numbers=accepts_numbers)
