"""`Call` and `Attempt`: the state of a call that the stages of the pipeline share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from msgspec import Struct, field

from gateway.dialects.dialect import Dialect, Translator
from gateway.dialects.request_headers import CallerHeaders
from gateway.dialects.table import CHAT
from gateway.http.request_id import next_id
from gateway.tokens.other_requests import chat_of
from gateway.tokens.prompt import PromptCounts
from providers.base import Adjustment, Body, Operation, Target, Usage, WireRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.catalog.prices import TokenPrice
    from gateway.config.secret import Secret
    from gateway.errors import GatewayError, Headers
    from gateway.hooks.run import HookRun
    from gateway.http.captured import CapturedContent
    from gateway.keys.virtual_key import VirtualKey
    from gateway.store.limit import Reservation
    from gateway.streams.native_relay import NativeRelay
    from gateway.streams.relay import Relay
    from gateway.streams.transcript import Transcript
    from gateway.tokens.truncation import ContextReport


def in_ms(seconds: float) -> float:
    """Return milliseconds with two decimals.

    `round` would take five times as long (0.5 us against 0.1), and every call uses this function several times.
    """
    return int(seconds * 1e5 + 0.5) / 100


class Attempt(Struct, eq=False):
    """One request to one target, and its result. Times are seconds on the monotonic clock."""

    target: Target
    price: TokenPrice | None = None
    """The price of the target's tokens; None if it is unknown."""
    adjustments: list[Adjustment] = []
    context: ContextReport | None = None
    """The report on how the conversation was fitted into the context window."""
    outcome: str = "ok"
    """`ok`, an HTTP status, a failure kind, `lost` (of a hedge), `left` (its caller disconnected), `limit` (not sent, because a
    limit of the gateway is used up), `cooldown` (not sent, because its target went into cooldown meanwhile, or another call is
    the probe of the target), `invalid_json` (before a repair) or `cached` (a cached answer). The attempt of a copy for a mirror may
    also have the outcome `cancelled`, `refused` or `internal_error`.
    """
    ms: float = 0.0
    """Duration of the attempt at its target, without `queue_s`."""
    queue_s: float = 0.0
    """Seconds for which the attempt waited for a slot of its target, for an engine, or for the answer of an equal call (cache)."""
    sent_at: float = 0.0
    """Time at which the request was ready to be sent and had a slot; for a continued stream, the time of the request that began it."""
    continued_at: float = 0.0
    """Time at which the request of an attempt that continues a stream was sent; 0 for other attempts."""
    is_written: bool = False
    """Whether the request was written to a connection."""
    head_at: float = 0.0
    """Time at which the head of the response arrived."""
    ended_at: float = 0.0
    """Time at which the response had arrived completely."""
    relays: list[Relay | NativeRelay] = []
    """The state of each upstream stream."""
    reported: list[Usage] = []
    """The usage of each upstream answer that was read completely."""
    usage: Usage | None = None
    """The usage of the caller's answer: as reported, or as estimated by `accounting.settle`."""
    billed: tuple[Usage, ...] = ()
    """The usage of an attempt that did not answer the call."""
    cost: int | None = 0
    """The cost of the caller's answer in nano-dollars, set when the call ends; None if it is unknown."""
    chunks: int = 0
    """Number of content events relayed, or estimated tokens of a JSON answer; used as output tokens if no usage is reported."""
    finish_reasons: tuple[str | None, ...] = ()
    stop_matched: str | None = None
    time_info: dict[str, Any] | None = None
    """Durations of parts of the answer, for the receipt."""
    upstream_id: str | None = None
    """The upstream's request id."""
    cache: Literal["", "hit", "miss", "bypass"] = ""
    """How the attempt used the model's cache; empty if it did not, as for a model without a cache. The usage of a `hit` is not billed."""
    cache_age_s: int = 0
    """Age of the cached answer in seconds."""

    @property
    def upstream_calls(self) -> int:
        """Number of upstream requests for this attempt: more than 1 if an adjustment split it into several."""
        for adjustment in self.adjustments:
            if adjustment.action == "fan_out":
                return len(adjustment.to) if type(adjustment.to) is list else int(adjustment.from_)
        return 1

    @property
    def prompt_copies(self) -> int:
        """Number of upstream requests of this attempt that each contain the whole prompt."""
        is_split = any(each.action == "fan_out" and type(each.to) is list for each in self.adjustments)
        return 1 if is_split else self.upstream_calls

    def as_record(self) -> dict[str, Any]:
        """Return the attempt as receipts and log lines show it."""
        record: dict[str, Any] = {"target": self.target.name, "outcome": self.outcome, "ms": self.ms}
        if self.queue_s:
            record["queue_ms"] = in_ms(self.queue_s)
        return record


class SkippedTarget(Struct, frozen=True):
    """A target that got no request, because its rules refused the call or its context window is too small."""

    target: str
    param: str | None
    why: str


class CallTrace(Protocol):
    """The interface by which the stages record the trace spans of one call."""

    id: str
    """The trace's id in hexadecimal; empty if this call is not sampled."""

    def begin(self, attempt: Attempt) -> None:
        """Start the span of an attempt."""
        ...

    def mark(self, request: WireRequest) -> None:
        """Add the trace context to an upstream request."""
        ...

    def end(self, call: Call, model: str) -> None:
        """End every span of the call. `model` is the name of the call's model in metrics."""
        ...


class PassedRequest(Struct):
    """The request of a passed call, for the log."""

    method: str
    path: str
    request_bytes: int = 0
    response_bytes: int = 0
    rpc_method: str = ""
    """The method of the message, if it was sent to an MCP server."""
    tool: str = ""
    """The tool that the message calls."""


class Call(Struct, eq=False):
    """One request and every decision about it. Times are seconds on the monotonic clock."""

    operation: Operation
    path: str
    dialect: Dialect = CHAT
    """The API that the caller uses."""
    translator: Translator | None = None
    """Translates between the caller's API and chat completions; None if no translation is needed."""
    id: str = field(default_factory=next_id)
    started: float = field(default_factory=time.monotonic)
    client_id: str | None = None
    """The caller's own x-request-id, repeated in the log and in the response."""
    client: str = ""
    """The address of the caller, behind the proxies that `trusted_proxies` names."""
    key: VirtualKey | None = None
    end_user: str = ""
    """The end user on whose behalf the call is made, as the caller names it."""
    credentials: Mapping[str, Secret] = {}
    """The credentials that the caller brings, by provider."""
    tags: tuple[str, ...] = ()
    """The declared tags of the call, in order."""
    headers: CallerHeaders | None = None
    """The caller's headers that the gateway, a provider or a trace uses; None if there are none."""
    mirror_of: str | None = None
    """The id of the call that this one copies."""
    body: Body | None = None
    source: Body | None = None
    """The request in the caller's own API, for targets that offer this API; None if calls of the API are never native."""
    body_bytes: int = 0
    """Size of the body as a chat completion, by which its tokens are estimated and bounded."""
    counts: PromptCounts | None = None
    """The counts of the prompt, made when they are first needed (`prompt`)."""
    model: str = ""
    route: str = ""
    """The model's name in the configuration, possibly a pattern."""
    stream: bool = False
    wants_usage: bool = False
    """Whether a stream shows its usage: set by stream_options.include_usage, and always set for translated APIs.

    If not, usage is requested from the upstream and hidden from the caller.
    """
    stops: tuple[str, ...] = ()
    """Stop strings. The gateway itself ends the text at them, for every provider."""
    keeps_stop: bool = False
    """Whether the stop string stays in the text (include_stop_str_in_output)."""
    wants_fit: bool = False
    """Whether the caller chose how a conversation that exceeds the context window is handled."""
    reservation: Reservation | None = None
    """The amounts reserved from the caller's limits until the call is settled."""
    target_reservations: int = 0
    """Number of reservations that were requested under the limits of targets."""
    limit_headers: Headers = ()
    """The response headers that show the caller's limits."""
    content: CapturedContent | None = None
    """The content of the call, if its key captures it."""
    limit_states: list[dict[str, Any]] = []
    """The states of the limits that refused the call or one of its attempts, for the record of the call."""
    deadline: float = float("inf")
    """The caller's own time limit for the whole call in seconds (timeout_microseconds)."""
    strict: bool = False
    strict_limits: bool = False
    """Whether the reservation includes strict limits on tokens or cost."""
    requires_parameters: bool = False
    """Whether only targets that honour every parameter may be used (x-gateway-require-parameters)."""
    wants_receipt: bool = False
    """Whether the caller requested the receipt in the body."""
    attempts: list[Attempt] = []
    """The attempts in order of their start; the winner of a hedge comes after the loser."""
    skipped: list[SkippedTarget] = []
    is_diverted: bool = False
    """Whether a split passed over the target that it would have chosen, because that target is unavailable."""
    answered_by: Attempt | None = None
    """The attempt whose response the caller got, completely or in part; for a continued stream, the latest."""
    status: int = 0
    error: GatewayError | None = None
    read_at: float = 0.0
    """Time at which the request was read completely."""
    pauses: tuple[tuple[float, float], ...] = ()
    """The pauses before retries and for the end of announced cooldowns: the time at which each began, and its seconds."""
    transcript: Transcript | None = None
    """The text sent so far, for a stream that another target may continue."""
    first_byte_at: float = 0.0
    """Time at which the first byte of the response was sent."""
    stream_end: str | None = None
    """The outcome of a stream: `ok`, a failure kind, `drain` if a shutdown ended it, or `idle` (a WebSocket connection without data)."""
    abort_phase: str | None = None
    """The phase in which the caller disconnected: `queue` (before any request was sent to an upstream), `pre` (before the first
    byte) or `mid`; `write_stall` if the caller stopped reading.
    """
    passed: PassedRequest | None = None
    """The request of a call that is passed to a provider as it is."""
    hooks: HookRun | None = None
    """The run of the hooks, if any are configured."""
    trace: CallTrace | None = None
    """The spans of the call, if traces are configured."""

    @property
    def final_attempt(self) -> Attempt | None:
        """The attempt that represents the call in headers, logs and metrics: the one that answered, else the latest."""
        if self.answered_by is not None:
            return self.answered_by
        return self.attempts[-1] if self.attempts else None

    @property
    def prompt(self) -> PromptCounts:
        """The prompt and its tokens at each target."""
        if self.counts is None:
            assert self.body is not None
            body, translator = self.body, self.translator
            if translator is not None and translator.refusal is not None and self.source is not None:
                body = chat_of(self.source)  # the translation lacks the parts that a chat completion cannot express
            self.counts = PromptCounts(body, self.body_bytes, self.operation)
        return self.counts

    @property
    def is_written(self) -> bool:
        """Whether a request was written to any upstream."""
        return any(attempt.is_written for attempt in self.attempts)

    def mirrored(self) -> Call:
        """Return a call with the same request, but without the caller's key, limits, deadline and receipt."""
        assert self.body is not None
        return Call(
            self.operation,
            self.path,
            self.dialect,
            self.translator,
            mirror_of=self.id,
            body=self.body.copy(),
            source=self.source,
            body_bytes=self.body_bytes,
            counts=self.counts,
            model=self.model,
            route=self.route,
            stream=self.stream,
            wants_usage=self.wants_usage,
            stops=self.stops,
            keeps_stop=self.keeps_stop,
            wants_fit=self.wants_fit,
            headers=self.headers,
            hooks=self.hooks,
        )


class Phases(NamedTuple):
    """The seconds of a call until its final attempt was sent, by cause. Their sum is the whole time until that moment.

    Pauses after that moment, before a request that was then not sent, are added to `retries`.
    """

    gateway: float
    """The gateway's own work."""
    queue: float
    """The waits of all attempts (`queue_s`)."""
    retries: float
    """Earlier attempts, and the pauses before retries and for announced cooldowns."""


def phases(call: Call, final: Attempt) -> Phases:
    """Return the phases of a call whose final attempt is `final`."""
    until = final.sent_at - call.started
    queue, retries, futile = final.queue_s, 0.0, 0.0
    if call.pauses:
        futile = paused_after(call, final)
        retries = sum([seconds for _, seconds in call.pauses]) - futile
    if len(call.attempts) > 1:
        # the attempts of a continued stream have the same `sent_at`, and the first of them in the list began the stream
        began = next((each for each in call.attempts if each.sent_at == final.sent_at), final)
        # the other attempt of a hedge may have begun later
        earlier = [each for each in call.attempts if each.sent_at < final.sent_at]
        queue = began.queue_s + sum(each.queue_s for each in earlier)
        retries += _covered(earlier, final.sent_at - began.queue_s)
    elif not queue and not retries:  # the usual case
        return Phases(until, 0.0, futile)
    return Phases(max(0.0, until - queue - retries), queue, retries + futile)


def paused_after(call: Call, final: Attempt) -> float:
    """Return the seconds of the pauses after the final attempt was sent. They are not a part of the time at its upstream."""
    return sum([seconds for began, seconds in call.pauses if began >= final.sent_at])


def _covered(attempts: list[Attempt], until: float) -> float:
    """Return the seconds before `until` in which at least one of the attempts was running at its target."""
    covered, end = 0.0, 0.0
    for began, ended in sorted((each.sent_at, min(each.sent_at + each.ms / 1000, until)) for each in attempts):
        covered += max(0.0, ended - max(began, end))
        end = max(end, ended)
    return covered
