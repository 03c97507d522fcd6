"""The contract of every provider: data in, data out, no I/O.

A provider translates between OpenAI's chat format and the wire format of one upstream:

    adapt    Body + Target         -> list[Adjustment]   applies its rules in place; raises Refusal
    encode   Body + Target         -> WireRequest        the bytes to send
    decode   response bytes        -> Answer             a JSON answer in OpenAI's format, usage, finish reasons
    decoder  for one stream        -> StreamDecoder      upstream events to OpenAI chunks; None if they need no change
    failure  status, headers, body -> Failure            the failure kind, message and wait time

The optional members of `Provider` declare everything else the gateway uses. A plugin needs to import only this module.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from providers.body import Body as Body
from providers.token_usage import Usage as Usage

Operation = Literal[
    "chat", "cohere_chat", "cohere_embed", "cohere_embed_v1", "completions", "embeddings", "logits", "messages", "rerank",
    "responses", "passthrough",
]  # fmt: skip
"""The kind of a request to a provider. `passthrough` is for passed calls; the kinds in `NATIVE_APIS` are for native requests."""

Action = Literal[
    "rename", "drop", "clamp", "reshape", "downgrade", "set_default", "move_to_header", "role_map", "fan_out", "enforce_locally",
    "warn", "truncate", "replace",
]  # fmt: skip

LOSSY: frozenset[str] = frozenset({"drop", "clamp", "downgrade", "truncate"})
"""Actions that change what the caller meant. Strict mode refuses them unless the value is neutral."""

FailureKind = Literal[
    "connect", "connect_timeout", "dns", "blocked", "tls", "tls_timeout", "header_timeout", "timeout", "ttft_timeout", "stalled",
    "closed_pre", "truncated", "reset", "bad_body", "bad_event", "too_large", "protocol", "encoding", "redirect", "rate_limit",
    "quota", "overloaded", "server_error", "auth", "client_error", "inband_error", "upstream_error", "crashed", "limit",
    "model_not_found", "path_not_found", "not_found", "request_too_large", "context_overflow", "content_filter",
]  # fmt: skip
"""All kinds of failures of an attempt. `gateway.errors` maps each to the status and code that the caller sees."""


class Adjustment(msgspec.Struct, frozen=True, omit_defaults=True, rename={"from_": "from"}):
    """One change to the caller's request: the parameter, the action, the old and new values, and the reason (free text)."""

    param: str
    action: Action
    from_: Any = None
    to: Any = None
    why: str = ""


class Refusal(Exception):
    """The target cannot honour the request. If no other target is tried, the caller gets a 400 that names `param`."""

    def __init__(self, message: str, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


_SettingsType = type[msgspec.Struct]


class Target(msgspec.Struct, frozen=True, eq=False, dict=True):
    """The destination of an attempt: a provider's model at an address, with a credential.

    `base_url` is everything before the path of the operation, version included, without a trailing slash. `socket` is
    the path of a unix socket; None means TCP. `options` are the provider's own settings (e.g. `anthropic_version`).
    """

    name: str
    """`provider/model` as in the configuration; shown to callers, in logs and in metrics."""
    provider: str
    """The provider's name in the configuration (not its type)."""
    kind: Provider
    model: str
    base_url: str
    credential: str | None = None
    socket: str | None = None
    options: Mapping[str, Any] = {}
    headers: tuple[tuple[str, str], ...] = ()  # additional request headers from the configuration
    forward_headers: frozenset[str] = frozenset()
    """Names (lower case) of callers' request headers that the configuration forwards."""
    pass_fields: tuple[str, ...] = ()
    """Fields of the request that the configuration passes unchanged."""
    reports_cost: bool = False
    """Whether the cost that an answer reports is what the provider charges for it."""
    brought: bool = False
    """Whether the caller supplied the credential."""
    shared_name: str = ""
    """`provider/model` if `name` also has the address of a replica. All replicas share limits, usage and metrics under this name."""
    facts: object | None = None
    """The model's entry in the gateway's catalog if the configuration names a catalog file, and otherwise None."""


TIMES = "times"  # key of `Options.memo` for durations of parts of the answer in seconds, as in Cerebras' `time_info`
CHOICES = "choices"  # key of `Options.memo` for the number of choices that the stream of a chat completion may have
NOTES = "notes"  # key of `Options.memo` for the adjustments that the decoder of a stream made: a list without repetitions


class Options(msgspec.Struct, frozen=True):
    """Options for adapting a body: strict or lenient, streamed or not, and the operation."""

    strict: bool = False
    stream: bool = False
    operation: Operation = "chat"
    memo: dict[str, Any] = {}
    """Values that `adapt` stores for `decode` and `decoder` of the same attempt. Each attempt has its own Options."""


def add_note(memo: dict[str, Any], note: Adjustment) -> None:
    """Add an adjustment of a stream to the notes in `Options.memo`, once."""
    notes = memo.setdefault(NOTES, [])
    if note not in notes:
        notes.append(note)


class WireRequest(msgspec.Struct):
    """One HTTP request. The transport adds host, content-length and accept-encoding. Header names are lower case."""

    path: str  # absolute, with base path and query
    headers: list[tuple[str, str]]
    body: bytes
    method: str = "POST"
    written: bool = False  # set by the transport when it sends the request


class Answer(msgspec.Struct):
    """A decoded JSON answer: its bytes, usage, the finish reason that the upstream gave each choice, and stop string. None: not known."""

    body: bytes
    usage: Usage | None = None
    finish_reasons: tuple[str | None, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    stop: str | None = None


class Failure(msgspec.Struct, frozen=True):
    """The failure of an attempt, with the upstream's own `status`, `code`, `param` and `type`.

    `retry_after` is in seconds, and infinite if no wait helps.
    """

    kind: FailureKind
    message: str
    status: int = 0
    code: str | None = None
    param: str | None = None
    type: str | None = None
    retry_after: float | None = None
    redacted: int = 0
    """Number of secrets that were removed from the upstream's message."""
    is_own: bool = False
    """Whether the message is the gateway's own and quotes nothing of the request or of the upstream."""


class AnswerShapeError(ValueError):
    """An answer lacks something that its API requires. The message names the place, and contains nothing of the content."""


class StreamFailure(Exception):
    """The failure of an answer or a stream that has begun: it reports an error, breaks off or cannot be read."""

    def __init__(self, failure: Failure, usage: Usage | None = None) -> None:
        """`usage` is the usage that the failed answer reports, or None if it reports none."""
        super().__init__(failure.message)
        self.failure = failure
        self.usage = usage


class Probabilities(msgspec.Struct):
    """Probabilities of the next token, by token text."""

    by_token: dict[str, float]
    first_token_only: list[str] = []
    """Requested entries that consist of several tokens. Their probability is that of the first token."""


class StreamDecoder(Protocol):
    """Turns the events of one upstream stream into OpenAI chunks. It has state and does no I/O. Only `feed` has no default."""

    @property
    def frame(self) -> tuple[bytes, bytes] | None:
        """The bytes around the text of events that need no decoding. Such a text is printable and has no quotes or backslashes."""
        return None

    def convert(self, events: bytes) -> bytes | None:
        """Return the bytes to send for complete events that contain only text, or None if `feed` must convert them."""
        return None

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """Return the JSON chunks (or b"[DONE]") for an event, given its name ("" if it has none) and its data.

        Raise StreamFailure for an error.
        """

    def take_usage(self) -> bytes | None:
        """Return the newest chunk whose usage `convert` left out, as `feed` would return it, and forget the chunk."""
        return None

    def end(self) -> Sequence[bytes]:
        """Return the chunks to send before an upstream [DONE]."""
        return ()


Chain = Generator[Body, bytes, bytes]
"""Yields adapted bodies, receives the answer to each, and returns the combined answer. It does no I/O."""
ProbabilitySteps = Generator[WireRequest, bytes, Probabilities]
"""Yields requests, receives the body of each answer, and returns the probabilities. It does no I/O."""
FindProbabilities = Callable[[Body, Target, Options, int | None, Sequence[str] | None], ProbabilitySteps]
"""Arguments: adapted chat body, target, options, number of tokens to list (`top_k`), and the allowed tokens (`vocabulary`)."""


class Provider(Protocol):
    """One vendor or engine and its wire format. Members with a default are optional, even in a plugin that is not a subclass."""

    type: str  # the value of `type:` in the configuration
    default_base_url: str | None
    needs_credential: bool
    options_type: _SettingsType | None = None
    """The type of the provider's own settings in the configuration."""
    operations: frozenset[Operation] = frozenset({"chat"})
    """Operations with a path of their own. If `completions` or `logits` is missing, the gateway emulates it with chat."""
    chat_only: tuple[str, ...] = ()  # calls of other APIs become chat completions for models with one of these texts in their names
    caller_headers: tuple[str, ...] = ()
    """The request headers (lower case) that the gateway forwards from the caller, besides those of a trace."""
    reports_cost: bool = False
    """Whether the cost that an answer reports is what the provider charges for it."""
    is_own_server: bool = False
    """Whether the operator runs the server, so that no vendor bills a call that is aborted."""
    load_gauges: tuple[str, ...] = ()
    """The gauges among the server's Prometheus metrics whose sum is the number of requests that it runs or keeps waiting."""
    always_streams: bool = False
    """Whether the upstream always streams its answer. The gateway aggregates it for callers that do not ask for a stream."""
    prefill: Mapping[str, Any] | None = None
    """Fields that make the upstream continue a final assistant message, or None if it cannot continue one."""
    probabilities: FindProbabilities | None = None
    """Finds exact next-token probabilities with several requests. If None, `top_logprobs` are used."""

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        """Apply the rules to `body` in place, and return the changes. Raise Refusal if a value can be neither sent nor adjusted."""

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        """Return the request for an adapted body, including the headers that rules moved out of the body."""

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        """Return the answer in OpenAI's format. Raise ValueError if `body` is not an answer, and StreamFailure for an error."""

    def decoder(self, target: Target, options: Options) -> StreamDecoder | None:
        """Return a decoder for one stream, or None if the upstream's events are OpenAI chunks that end in [DONE]."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        """Classify an error response. Never raise, and never return the target's credential."""

    def capabilities(self, model: str) -> Mapping[str, Any]:
        """Return for each parameter whether `model` supports it or how it is adjusted, as derived from the rules."""

    def model_problem(self, model: str, settings: Mapping[str, Any]) -> str | None:
        """Return the reason why the provider's settings do not fit a model of the configuration, or None if they fit the model."""
        return None

    def chained(self, body: Body, options: Options) -> Chain | None:
        """Return a chain whose requests together honour an adapted body, or None if one request is enough."""
        return None

    def models_path(self, base: str) -> str | None:
        """Return the path of the list of models that requests may name, or None if there is none. `base` is the base URL's path."""
        return f"{base}/models"

    def probe_headers(self, target: Target) -> list[tuple[str, str]]:
        """Return the headers of a health probe, credential included."""
        return []
