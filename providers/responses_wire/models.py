"""OpenAI's reasoning models by prefix: efforts, tools, and the APIs that serve them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from providers.rules.rule import ForModels


class Family(NamedTuple):
    """Reasoning models with a common prefix."""

    prefix: str
    default_on: bool
    efforts: tuple[str, ...]
    accepts_stop: bool = False
    tools_while_reasoning: bool = True
    parallel_calls: bool = True
    web_search: bool = False
    only_responses: bool = False
    """Whether the models have only the Responses API."""
    max_effort: bool = False
    """Whether the Responses API accepts the effort `max`, which chat completions reject."""


_ALL = ("none", "low", "medium", "high", "xhigh")
_UP = ("low", "medium", "high", "xhigh")
_UP_TO_HIGH = ("low", "medium", "high")
_PRO = ("medium", "high", "xhigh")

REASONING_FAMILIES: tuple[Family, ...] = (
    Family("gpt-6-astra", True, _UP, tools_while_reasoning=False, max_effort=True),
    Family("gpt-6-rosalind", True, _UP, only_responses=True, max_effort=True),
    Family("gpt-6-cyber", True, _UP, only_responses=True, max_effort=True),
    Family("gpt-6.1-sol", True, _UP, tools_while_reasoning=False, max_effort=True),
    Family("gpt-6.1-terra", True, _ALL, tools_while_reasoning=False, max_effort=True),
    Family("gpt-6", True, _ALL, tools_while_reasoning=False, max_effort=True),
    Family("gpt-5.6-cyber", True, _ALL, only_responses=True, max_effort=True),
    Family("gpt-5.6", True, _ALL, tools_while_reasoning=False, max_effort=True),
    Family("gpt-5.5-pro", True, _PRO, only_responses=True),
    Family("gpt-5.5", True, _ALL, tools_while_reasoning=False),
    Family("gpt-5.4-pro", True, _PRO, only_responses=True),
    Family("gpt-5.4", False, _ALL, tools_while_reasoning=False),
    Family("gpt-5.3-codex", True, _UP, only_responses=True),
    Family("gpt-5.3-chat", True, ("medium",)),
    Family("gpt-5.3", False, _ALL),
    Family("gpt-5.2-pro", True, _PRO, only_responses=True),
    Family("gpt-5.2-codex", True, _UP, only_responses=True),
    Family("gpt-5.2-chat", True, ("medium",)),
    Family("gpt-5.2", False, _ALL),
    Family("gpt-5.1-codex", True, _UP, only_responses=True),
    Family("gpt-5.1-chat", True, ("medium",)),
    Family("gpt-5.1", False, ("none", *_UP_TO_HIGH)),
    Family("gpt-5-pro", True, ("high",), only_responses=True),
    Family("gpt-5-codex", True, _UP_TO_HIGH, only_responses=True),
    Family("gpt-5-search-api", True, ("minimal", *_UP_TO_HIGH), web_search=True),
    Family("gpt-5", True, ("minimal", *_UP_TO_HIGH)),
    Family("o1-pro", True, _UP_TO_HIGH, parallel_calls=False, only_responses=True),
    Family("o1", True, _UP_TO_HIGH, accepts_stop=True, parallel_calls=False),
    Family("o3-pro", True, _UP_TO_HIGH, parallel_calls=False, only_responses=True),
    Family("o3-deep-research", True, ("medium",), parallel_calls=False, only_responses=True),
    Family("o3", True, _UP_TO_HIGH, parallel_calls=False),
    Family("o4-mini-deep-research", True, ("medium",), parallel_calls=False, only_responses=True),
    Family("codex-mini", True, _UP_TO_HIGH, parallel_calls=False, only_responses=True),
    Family("computer-use-preview", True, ("medium",), parallel_calls=False, only_responses=True),
    Family("o4", True, _UP_TO_HIGH, parallel_calls=False),
)
"""Reasoning models and the parameters that they accept, as of 2026-11. The first matching prefix wins.

Efforts: litellm 1.109.1 and pydantic-ai-slim 2.68.0; opencode#26268 (values confirmed by OpenAI's own errors). OpenAI
rejects `max` in chat completions. Tools while reasoning: openai-openapi#541 (5.4), litellm#34569 (5.6), onyx#15008 (6-sol),
sub2api#6740 (6-astra). Parallel calls of the o-series: langchain#29704, tensorzero#2805. Models with only the Responses API:
openai 3.57.0 (ResponsesModel), litellm 1.109.1 (mode `responses`), docker-agent#313, chatwise-releases#1256. Their efforts:
big-AGI#944 and #1159, which tried each in the Responses API. `max`: opencode#36135, buzz#1806, pr-agent#3259.
"""

NEWEST = (
    (("gpt-5.",), "gpt-5.6"),
    (("gpt-6.",), "gpt-6.1-terra"),
    (("gpt-7", "gpt-8", "gpt-9"), "gpt-6.1-terra"),
    (("o5", "o6", "o7", "o8", "o9"), "o4"),
)
"""Prefixes of models that are newer than the table, and the family whose rules apply to them."""


class ForFamily(ForModels, frozen=True):
    """Rules for a family. A prefix must not end inside a version: `gpt-5` does not match `gpt-5.7`."""

    def matches(self, model: str) -> bool:
        return any(model.startswith(prefix) and not _DIGITS.match(model, len(prefix)) for prefix in self.prefixes)


_DIGITS = re.compile(r"\.?\d")

BY_PREFIX = {family.prefix: family for family in REASONING_FAMILIES}

_ONLY_RESPONSES = re.compile(
    r"(?:gpt-\d[\d.]*|o\d+)(?:-mini)?-(?:pro|codex|cyber|deep-research)\b|gpt-(?:daybreak|rosalind)-|codex-|computer-use-"
)
"""Names of models that have only the Responses API, including those of models newer than the table."""
_DEEP_RESEARCH = re.compile(r"o\d+(?:-mini)?-deep-research\b")


@lru_cache(10_000)
def family_of(model: str) -> Family | None:
    """Return the reasoning family whose rules apply to a model, or None if the model does not reason."""
    for family in REASONING_FAMILIES:
        if ForFamily((family.prefix,), ()).matches(model):
            return None if model.startswith("gpt-5-chat") else family
    return next((BY_PREFIX[like] for prefixes, like in NEWEST if model.startswith(prefixes)), None)


@lru_cache(10_000)
def is_only_way(model: str) -> bool:
    """Return whether only the Responses API serves a model."""
    family = family_of(model)
    return _ONLY_RESPONSES.match(model) is not None or (family is not None and family.only_responses)


@lru_cache(10_000)
def rejects_tools(model: str) -> bool:
    """Return whether chat completions reject tools for a model while it reasons."""
    family = family_of(model)
    return family is not None and not family.tools_while_reasoning


def default_tools(model: str) -> tuple[str, ...]:
    """Return the tools that a model requires: a data source for deep research (lobehub#8291, mcp-handley-lab#156), otherwise none."""
    return ("web_search_preview",) if _DEEP_RESEARCH.match(model) else ()
