"""Parameters that Claude models accept, by family and version.

As of 2026-11. Sources: platform.claude.com on effort, adaptive thinking, structured outputs and prefill; litellm 1.109.1
(efforts, prefill, sampling); open-webui/pipelines#546 (temperature or top_p), openclaw#100403 (no budget on sonnet-5).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from providers.rules.model_tables import NewerModel
from providers.rules.rule import ForModels, Rule

Version = tuple[int, int]
_TO_HIGH = ("low", "medium", "high")
_TO_MAX = (*_TO_HIGH, "max")
_ALL = (*_TO_HIGH, "xhigh", "max")


class Model(NamedTuple):
    """Parameters that one generation of a model family accepts."""

    family: str
    first: Version
    """First version of the generation, which extends to the next generation of the family."""
    known: tuple[Version, ...]
    efforts: tuple[str, ...] = _ALL
    thinking: Literal["none", "budget", "both", "adaptive", "any"] = "adaptive"
    """The kinds of thinking: none, with a budget, adaptive, or both. `any`: unknown, so the setting is sent unchanged."""
    sampling: Literal["both", "one", "none"] = "none"
    """Whether temperature and top_p are accepted: both, one of them, or none. API version 2026-10-21 accepts none."""
    prefill: bool = False
    """Whether the model continues a final assistant message."""
    schemas: bool = True
    can_stop_thinking: bool = True


MODELS: tuple[Model, ...] = (
    Model("opus", (5, 0), ((5, 0), (5, 5))),
    Model("opus", (4, 7), ((4, 7), (4, 8))),
    Model("opus", (4, 6), ((4, 6),), _TO_MAX, "both", "one"),
    Model("opus", (4, 5), ((4, 5),), _TO_HIGH, "budget", "one", prefill=True),
    Model("opus", (4, 1), ((4, 1),), (), "budget", "one", prefill=True),
    Model("opus", (4, 0), ((4, 0),), (), "budget", "both", prefill=True, schemas=False),
    Model("opus", (0, 0), ((3, 0),), (), "none", "both", prefill=True, schemas=False),
    Model("sonnet", (5, 0), ((5, 0), (5, 5))),
    Model("sonnet", (4, 6), ((4, 6),), _TO_MAX, "both", "one"),
    Model("sonnet", (4, 5), ((4, 5),), (), "budget", "one", prefill=True),
    Model("sonnet", (4, 0), ((4, 0),), (), "budget", "both", prefill=True, schemas=False),
    Model("sonnet", (3, 7), ((3, 7),), (), "budget", "both", prefill=True, schemas=False),
    Model("sonnet", (0, 0), ((3, 0), (3, 5)), (), "none", "both", prefill=True, schemas=False),
    Model("haiku", (5, 0), ((5, 0), (5, 5))),
    Model("haiku", (4, 5), ((4, 5),), (), "budget", "one", prefill=True),
    Model("haiku", (0, 0), ((3, 0), (3, 5)), (), "none", "both", prefill=True, schemas=False),
    Model("fable", (0, 0), ((5, 0), (5, 1))),
    Model("mythos", (5, 0), ((5, 0), (5, 1))),
    Model("mythos", (0, 0), ((0, 0),), _TO_MAX, can_stop_thinking=False),
    Model("instant", (0, 0), ((1, 0), (1, 2)), (), "none", "both", prefill=True, schemas=False),
)
"""Generations by family, the newest one first."""

UNKNOWN = Model("", (0, 0), (), (*_ALL,), "any", "both", prefill=True)
"""Parameters for names that are not names of Claude models, such as aliases on another server."""
NEWEST = MODELS[0]

_NAME = re.compile(r"claude-(?:(\d)(?:[-.](\d{1,2}))?-)?([a-z]+)(?:-(\d{1,2})(?:[-.](\d{1,2}))?)?(?!\d)")
_FAMILIES = frozenset(model.family for model in MODELS)


def parse(name: str) -> tuple[str, Version] | None:
    """Return the family and the version in a model's name, in either order (`claude-3-5-haiku`, `claude-haiku-4-5`), or None."""
    match = _NAME.search(name)
    if match is None:
        return None
    major, minor, family, later, detail = match.groups()
    return family, (int(major or later or 0), int((minor if major else detail) or 0))


class Generation(ForModels, frozen=True):
    """Rules for one row of the table."""

    model: Model

    def matches(self, model: str) -> bool:
        """Return whether a model is of this family, in this version or a later one. New families match the newest row."""
        parsed = parse(model)
        if parsed is None:
            return False
        family, version = parsed
        return self.model is NEWEST if family not in _FAMILIES else family == self.model.family and version >= self.model.first

    def rules_for(self, model: str) -> tuple[Rule, ...]:
        """Return the rules, with a warning for a version that is not in the table."""
        parsed = parse(model)
        if parsed is None or (parsed[0] == self.model.family and parsed[1] in self.model.known):
            return self.rules
        return (NewerModel(like=self.prefixes[0]), *self.rules)


def name_of(model: Model) -> str:
    """Return a model's name as Anthropic writes it."""
    major, minor = model.known[0]
    version = f"{major}-{minor}" if minor else str(major)
    if major == 3:
        return f"claude-{version}-{model.family}"
    return f"claude-{model.family}-{version}" if major else f"claude-{model.family}-preview"
