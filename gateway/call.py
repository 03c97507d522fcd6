"""What travels through the stages: one Call, and an Attempt for every send."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field

from gateway.http.request_id import next_id
from providers.base import Adjustment, Body, Operation, Target, Usage, WireRequest

if TYPE_CHECKING:
    from gateway.catalog.prices import TokenPrice
    from gateway.errors import GatewayError, Headers
    from gateway.keys.authenticate import VirtualKey
    from gateway.store.limit import Reservation
    from gateway.streams.relay import Relay
    from gateway.streams.transcript import Transcript
    from gateway.tokens.truncation import ContextReport


def in_ms(seconds: float) -> float:
    """Milliseconds to two decimals; round() takes five times as long (0.1 us against 0.5), and every call does this four times."""
    return int(seconds * 1e5 + 0.5) / 100


class Attempt(Struct):
    """One send to one target. `outcome` is "ok", an HTTP status, or a failure kind; `ms` how long it took."""

    target: str
    outcome: str = "ok"
    ms: float = 0.0


class CallTrace(Protocol):
    """The spans of one call, as the stages see them."""

    id: str
    """The trace's id in hexadecimal; empty if this call is not sampled."""

    def begin(self, attempt: Attempt, target: Target) -> None:
        """Start the span of an attempt."""
        ...

    def mark(self, request: WireRequest) -> None:
        """Add the trace context to an upstream request."""
        ...

    def end(self, call: Call, model: str) -> None:
        """End every span of the call; `model` is its label."""
        ...


class Aside(Struct, frozen=True):
    """What an attempt used that did not answer the call in the end; `cost` in nano-dollars."""

    target: str
    usage: Usage
    cost: int


class Call(Struct, eq=False):
    """One request and all that was decided on it. Times are seconds on the monotonic clock."""

    operation: Operation
    path: str
    id: str = field(default_factory=next_id)
    started: float = field(default_factory=time.monotonic)
    client_id: str | None = None
    """The caller's own x-request-id, linked in log and answer."""
    key: VirtualKey | None = None
    mirror_of: str | None = None
    """The id of the call that this is a copy of."""
    body: Body | None = None
    body_bytes: int = 0
    model: str = ""
    route: str = ""
    """The model's name in the configuration, perhaps a pattern."""
    stream: bool = False
    usage_asked: bool = False
    """The caller set stream_options.include_usage; otherwise we ask upstream and hide it."""
    stops: tuple[str, ...] = ()
    """Stop strings, each of which ends the text here whatever the provider does with it."""
    keep_stop: bool = False
    """The stop stays in the text (include_stop_str_in_output)."""
    stop_matched: str | None = None
    time_info: dict[str, Any] | None = None
    """How long the answer's parts took, for the receipt."""
    fits: bool = False
    """The caller said what to do about a conversation that does not fit the context window."""
    context: ContextReport | None = None
    """What was counted, and which messages left."""
    reservation: Reservation | None = None
    """What the caller's limits hold for this call until it is settled."""
    limit_headers: Headers = ()
    """How those limits stand, for the answer."""
    deadline: float = float("inf")
    """Seconds that the caller gives the whole call (timeout_microseconds)."""
    strict: bool = False
    strict_limits: bool = False
    """Limits on tokens or money that have to hold exactly were reserved for this call."""
    require: bool = False
    """Only targets that honour every parameter of this call may be asked (x-gateway-require-parameters)."""
    receipt: bool = False
    """The caller wants the receipt in the body."""
    adjustments: list[Adjustment] = []
    attempts: list[Attempt] = []
    asides: list[Aside] = []
    target: Target | None = None
    price: TokenPrice | None = None
    """What the target's tokens cost; None when nobody knows."""
    relays: list[Relay] = []
    """The upstream streams of the answer that the caller gets."""
    status: int = 0
    error: GatewayError | None = None
    usage: Usage | None = None
    finish_reasons: tuple[str | None, ...] = ()
    cost: int = 0
    """What the answer itself cost, in nano-dollars; 0 where nobody knows the price. Known at the end."""
    read_at: float = 0.0
    """When the request had been read whole."""
    sent_at: float = 0.0
    """When the last attempt's request was ready to be sent."""
    transcript: Transcript | None = None
    """What its caller was told, for a stream that may be continued elsewhere."""
    written: bool = False
    """Some upstream was sent this call."""
    upstream_at: float = 0.0
    """When the last attempt's head arrived."""
    upstream_end: float = 0.0
    """When the last attempt's answer had arrived whole."""
    first_byte_at: float = 0.0
    """When the first byte of the answer went to the caller."""
    chunks: int = 0
    """Content events relayed, or an answer's length in tokens: the estimate of output tokens when no usage comes."""
    stream_end: str | None = None
    """How a stream ended: ok, or a failure kind."""
    abort_phase: str | None = None
    """Where the caller left: queue, pre (before the first byte) or mid."""
    upstream_id: str | None = None
    trace: CallTrace | None = None
    """Its spans, where traces are configured."""
