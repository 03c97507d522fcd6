"""A candidate: a backend with the settings of the models that lead to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from gateway.targets.backend import Backend
from gateway.upstream.transport import Deadlines

if TYPE_CHECKING:
    from gateway.config.model import ModelConfig, ModelSettings
    from gateway.config.route import Route


class Model(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A model that callers can ask for: its name in the configuration (which may be a pattern), its route, and its settings."""

    name: str
    route: Route
    settings: ModelConfig


class Candidate(msgspec.Struct, frozen=True, eq=False):
    """A backend to which a call may be sent, with the merged settings of the models that lead to it."""

    backend: Backend
    deadlines: Deadlines
    """The timeouts in the settings; for those that are not set, the provider's timeouts."""
    settings: ModelSettings
    hedge_model: str = ""
    """The model that `settings.hedge` comes from. Its hedged attempts share one budget."""


def not_among(chosen: Sequence[Candidate], candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates whose target is not the target of a chosen one."""
    names = {candidate.backend.target.name for candidate in chosen}
    return [candidate for candidate in candidates if candidate.backend.target.name not in names]
