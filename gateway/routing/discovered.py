"""Models that providers list (`discover`): their names for callers, and whether another name may belong to an unread list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.config.discover import DiscoverConfig
from gateway.config.model import ModelConfig
from gateway.config.provider import ProviderConfig
from gateway.config.route import Ref
from gateway.config.types import matching_wildcard
from gateway.errors import Unavailable
from gateway.targets.candidate import Model

RETRY_AFTER_S = 5.0


class DiscoveredModels:
    """The models that the providers of one configuration list."""

    def __init__(self, models: Mapping[str, Model] | None = None, unread: Mapping[str, DiscoverConfig] | None = None) -> None:
        """`unread` has the settings of each provider whose list has not been read, by the provider's name."""
        self.models = models or {}
        self._unread = unread or {}
        self.assumes: bool = False
        """Whether every name that an unread list may contain counts as listed: True in dry runs, which read no lists."""

    def find(self, name: str) -> Model | None:
        """Return the listed model with this name, or None."""
        model = self.models.get(name)
        if model is None and self.assumes:
            model = next((_model(name, owner, listed) for owner, listed in self._may_be_listed(name)), None)
        return model

    def check_unread(self, name: str) -> None:
        """Raise Unavailable if a provider whose list has not been read may have a model with this name."""
        for owner, _ in self._may_be_listed(name):
            message = f"The models of the provider '{owner}' are unknown, because its list has not been read yet. Try again later."
            raise Unavailable(message, code="models_not_listed", retry_after=RETRY_AFTER_S)

    def _may_be_listed(self, name: str) -> Iterable[tuple[str, str]]:
        for owner, settings in self._unread.items():
            if (listed := settings.model_for(owner, name)) is not None:
                yield owner, listed


def discovered_models(
    providers: Mapping[str, ProviderConfig], configured: Iterable[str], lists: Mapping[str, tuple[str, ...] | None]
) -> DiscoveredModels:
    """Return the models of the lists. Configured names and prefixes take precedence.

    If several providers list a name, the first provider takes precedence.
    """
    configured = set(configured)
    models: dict[str, Model] = {}
    unread: dict[str, DiscoverConfig] = {}
    for owner, provider in providers.items():
        settings = provider.discovery
        if settings is None:
            continue
        if (listed := lists.get(owner)) is None:
            unread[owner] = settings
        for model in listed or ():
            name = settings.name_for(owner, model)
            if name not in configured and matching_wildcard(name, configured) in (None, "*"):
                models.setdefault(name, _model(name, owner, model))
    return DiscoveredModels(models, unread)


def _model(name: str, provider: str, listed: str) -> Model:
    ref = Ref(provider, listed)
    return Model(name, ref, ModelConfig(name=name, targets=ref))
