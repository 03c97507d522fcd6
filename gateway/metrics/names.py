"""Names that may become label values: configured names, known parameters, and the first discovered models, keys, teams and error codes.

All other names become `other`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gateway.metrics.declarations import MAX_CODES, MAX_DISCOVERED, MAX_KEYS, MAX_TEAMS, NONE, OTHER
from providers.base import Target

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")

SYSTEMS = {
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""Provider types that have another name in the GenAI semantic conventions."""
_GENERIC_TYPES = frozenset({"openai-compatible", "vllm", "llamacpp", "ollama"})
"""Types of self-hosted servers: the provider's name in the configuration is more informative than the type."""


def system_of(provider: str, type: str) -> str:
    """Return the name that the GenAI semantic conventions give a provider of this type."""
    return provider if type in _GENERIC_TYPES else SYSTEMS.get(type, type)


class Names:
    """The names of every configuration so far, and the first discovered models, keys, teams and error codes that were seen."""

    def __init__(self, params: Iterable[str]) -> None:
        self._params = frozenset(params)
        self._models: set[str] = set()
        self._targets: set[str] = set()
        self._systems: dict[str, str] = {}
        self._codes: set[str] = set()
        self._keys: set[str] = set()
        self._teams: set[str] = set()
        self._discovered: set[str] = set()

    def add(self, models: Iterable[str], targets: Iterable[str], types: Mapping[str, str]) -> None:
        """Add models, targets, and the type of each provider.

        Earlier names stay, because their series stay.
        """
        self._models.update(models)
        self._targets.update(targets)
        self._systems.update({name: system_of(name, type) for name, type in types.items()})

    def add_discovered(self, targets: Mapping[str, str]) -> None:
        """Add models that providers list, with the target of each. The first MAX_DISCOVERED models become label values."""
        for name, target in targets.items():
            if len(self._discovered) < MAX_DISCOVERED:
                self._discovered.add(name)
            if name in self._discovered:
                self._models.add(name)
                self._targets.add(target)

    def model(self, name: str) -> str:
        """Return the model's name, or `other` if the model is neither configured nor among the first MAX_DISCOVERED discovered models."""
        return name if name in self._models else OTHER

    def target(self, target: Target | None) -> str:
        """Return the label value of a target, or `none` if there is no target."""
        if target is None:
            return NONE
        return target.name if target.name in self._targets else self.target_named(target.name)

    def target_named(self, name: str) -> str:
        """Return the label value of the target `provider/model`.

        This is the target's name if the target is configured, without the address of a replica; `provider/other` if only
        the provider is configured, and `other` if neither is configured.
        """
        if name in self._targets:
            return name
        if (shared := name.rpartition("@")[0]) in self._targets:
            return shared
        provider = name.partition("/")[0]
        return f"{provider}/{OTHER}" if provider in self._systems else OTHER

    def upstream_model(self, target: Target) -> str:
        """Return the provider's name for the target's model, or `other` if the target is not configured."""
        return target.model if (target.shared_name or target.name) in self._targets else OTHER

    def provider(self, target: Target | None) -> str:
        """Return the target's provider as a label value: `other` if the provider is not configured, `none` if there is no target."""
        if target is None:
            return NONE
        return target.provider if target.provider in self._systems else OTHER

    def system(self, provider: str) -> str:
        """Return a provider's name in the GenAI semantic conventions, or `other` if the provider is not configured."""
        return self._systems.get(provider, OTHER)

    def param(self, param: str) -> str:
        """Return the top-level name of a parameter, or `other` if the parameter is unknown."""
        top = param.partition("[")[0].partition(".")[0]
        return top if top in self._params else OTHER

    def code(self, code: str) -> str:
        """Return the label value of an error code.

        An upstream can send any code, so only the first MAX_CODES become label values.
        """
        return _one_of_first(code, self._codes, MAX_CODES) if _CODE.match(code) else OTHER

    def key(self, name: str) -> str:
        """Return a key's name, or `other` if the key is not among the first MAX_KEYS keys that were used."""
        return _one_of_first(name, self._keys, MAX_KEYS)

    def team(self, name: str) -> str:
        """Return a team's name, `none` if the name is empty, or `other` if the team is not among the first MAX_TEAMS teams used."""
        return _one_of_first(name, self._teams, MAX_TEAMS) if name else NONE


def _one_of_first(name: str, known: set[str], max_known: int) -> str:
    if name not in known:
        if len(known) >= max_known:
            return OTHER
        known.add(name)
    return name
