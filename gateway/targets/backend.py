"""Where calls may go: a model's places with their settings, as its route leads to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.config.route import DEFAULT_MAX_ATTEMPTS, Route
from gateway.targets.latency import Latency
from gateway.upstream.transport import Deadlines, Origin, Transport
from providers.base import Target

if TYPE_CHECKING:
    from gateway.catalog.prices import TokenPrice
    from gateway.config.types import ContextConfig, HedgeConfig, MirrorConfig, ModelConfig
    from providers.local.engine import Engine
    from providers.local.worker_engine import WorkerEngine


class Backend(msgspec.Struct, eq=False):
    """A target with the way to it: which pool, which transport. One Target for each credential, used in turn."""

    targets: tuple[Target, ...]
    origin: Origin
    transport: Transport
    deadlines: Deadlines
    engine: Engine | WorkerEngine | None = None
    """The embedded engine behind it: it admits calls, and knows why one broke."""
    turn: int = 0
    latency: Latency = msgspec.field(default_factory=Latency)
    price: TokenPrice | None = None
    """What its tokens cost; None when nobody knows."""
    bills_aborted_prompt: bool = False
    finishes_reading: bool = False
    """Answers whose caller left are read to their end."""
    finishing: int = 0

    @property
    def target(self) -> Target:
        """The target, with its first credential."""
        return self.targets[0]

    def next_target(self) -> Target:
        """The target, with the credential whose turn it is."""
        if len(self.targets) == 1:
            return self.targets[0]
        self.turn = (self.turn + 1) % len(self.targets)
        return self.targets[self.turn]


class Model(msgspec.Struct, frozen=True, eq=False):
    """What callers may ask for: its name in the YAML (perhaps a pattern), its route, its settings."""

    name: str
    route: Route
    settings: ModelConfig


class Hedge(msgspec.Struct, frozen=True, eq=False):
    """The hedging of a model, under the name that its budget is kept by."""

    model: str
    settings: HedgeConfig


class Candidate(msgspec.Struct, frozen=True, eq=False):
    """One place to try, with the deadlines and retries of the model that led there."""

    backend: Backend
    deadlines: Deadlines
    retries: int
    strict: bool
    context: ContextConfig | None = None
    json_repair: bool = False
    continue_on_cut: bool = False
    attempts: int = DEFAULT_MAX_ATTEMPTS
    """Most sends for the call as a whole."""
    hedge: Hedge | None = None
    """When a second attempt goes to the place after it."""
    mirror: MirrorConfig | None = None
    """What gets a copy of the call."""
    require: bool = False
    """Not for calls of which it would lose a parameter."""
