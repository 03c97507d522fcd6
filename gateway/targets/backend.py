"""A backend: one target with its transport, credentials, latency, price and embedded engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.targets.latency import Latency
from gateway.upstream.transport import Deadlines, Origin, Transport
from providers.base import Target

if TYPE_CHECKING:
    from gateway.catalog.prices import TokenPrice
    from providers.local.supervisor import Engine
    from providers.local.worker_engine import WorkerEngine


class Backend(msgspec.Struct, eq=False):
    """A target with everything that this process needs to send it a request."""

    targets: tuple[Target, ...]
    """One copy of the target for each credential; `TargetHealth.pick_credential` chooses one."""
    origin: Origin
    transport: Transport
    deadlines: Deadlines
    engine: Engine | WorkerEngine | None = None
    """The embedded engine behind the target. It admits calls and reports why a call failed."""
    latency: Latency = msgspec.field(default_factory=Latency)
    price: TokenPrice | None = None
    """None if the price is unknown."""
    bills_aborted_prompt: bool = False
    """Whether the provider bills the prompt of a request that the gateway aborts."""
    counts_aborted_prompt: bool = False
    """Whether the prompt of such a request counts as tokens, although it costs nothing."""
    finishes_reading: bool = False
    """Whether an answer is read to its end even if its caller has disconnected."""
    finishing: int = 0
    """Number of answers that are being read although their callers have disconnected."""
    target: Target = None  # type: ignore[assignment]  # __post_init__ sets it
    """The target with its first credential, the first of `targets`. It is stored because a call reads it often."""

    def __post_init__(self) -> None:
        self.target = self.targets[0]


class BackendOf(Protocol):
    """Returns the backend of a provider's model, or of one of its replicas."""

    def __call__(self, provider: str, model: str, replica: str = "", /) -> Backend: ...
