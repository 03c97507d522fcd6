"""Which names may become label values: those of the configuration, known parameters, the first error codes; all others are `other`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gateway.metrics.table import MAX_CODES, MAX_KEYS, NONE, OTHER
from providers.base import Target

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")

SYSTEMS = {
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""Provider types whose name in the GenAI conventions is another."""
_UNNAMED = frozenset({"openai-compatible", "vllm", "llamacpp", "ollama"})
"""Types that many servers have: the provider's name in the configuration says more."""


def system_of(provider: str, type: str) -> str:
    """What the GenAI conventions call a provider of that type."""
    return provider if type in _UNNAMED else SYSTEMS.get(type, type)


class Names:
    """The names of every configuration so far, and of keys and codes the first that came."""

    def __init__(self, params: Iterable[str]) -> None:
        self._params = frozenset(params)
        self._models: set[str] = set()
        self._targets: set[str] = set()
        self._systems: dict[str, str] = {}
        self._codes: set[str] = set()
        self._keys: set[str] = set()

    def know(self, models: Iterable[str], targets: Iterable[str], types: Mapping[str, str]) -> None:
        """More names: models, targets, and each provider's type. Those of older configurations stay, as their series do."""
        self._models.update(models)
        self._targets.update(targets)
        self._systems.update({name: system_of(name, type) for name, type in types.items()})

    def model(self, name: str) -> str:
        """The model's name if it is configured."""
        return name if name in self._models else OTHER

    def target(self, target: Target | None) -> str:
        """The target's name if the configuration names it."""
        if target is None:
            return NONE
        return target.name if target.name in self._targets else self.target_named(target.name)

    def target_named(self, name: str) -> str:
        """The same by `provider/model`."""
        if name in self._targets:
            return name
        provider = name.partition("/")[0]
        return f"{provider}/{OTHER}" if provider in self._systems else OTHER

    def upstream_model(self, target: Target) -> str:
        """The model's name at the provider."""
        return target.model if target.name in self._targets else OTHER

    def provider(self, target: Target | None) -> str:
        """A target's provider."""
        if target is None:
            return NONE
        return target.provider if target.provider in self._systems else OTHER

    def system(self, provider: str) -> str:
        """What the GenAI conventions call a provider."""
        return self._systems.get(provider, OTHER)

    def param(self, param: str) -> str:
        """A parameter's top-level name if it is one that we know."""
        top = param.partition("[")[0].partition(".")[0]
        return top if top in self._params else OTHER

    def code(self, code: str) -> str:
        """An error code; upstreams bring their own, so only the first become labels."""
        return _first(code, self._codes, MAX_CODES) if _CODE.match(code) else OTHER

    def key(self, name: str) -> str:
        """A key's name, if it is among the first that called."""
        return _first(name, self._keys, MAX_KEYS)


def _first(name: str, known: set[str], most: int) -> str:
    if name not in known:
        if len(known) >= most:
            return OTHER
        known.add(name)
    return name
