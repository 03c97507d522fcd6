"""The contract every provider fulfils: pure data in, pure data out, no I/O.

A provider translates between OpenAI's chat format (the hub) and the wire of one upstream:

    adapt    Body + Target        -> list[Adjustment]   its rules, applied in place; Refusal when a value cannot be sent
    encode   Body + Target        -> WireRequest        the bytes to send
    decode   response bytes       -> Answer             one JSON answer in OpenAI's format, usage and finish reasons
    decoder  for one stream       -> StreamDecoder      upstream events to OpenAI chunks; None: the bytes are right as they are
    failure  status, headers, body -> Failure           what went wrong, in words that routing can act on

A plugin author needs this module and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

Operation = Literal["chat", "completions", "embeddings", "logits"]
"""What the caller asked for; the dialect it was asked in does not matter any more."""

Action = Literal[
    "rename", "drop", "clamp", "reshape", "downgrade", "set_default", "move_to_header",
    "role_map", "fan_out", "enforce_locally", "warn", "truncate",
]  # fmt: skip

LOSSY: frozenset[str] = frozenset({"drop", "clamp", "downgrade", "truncate"})
"""Actions that change what the caller meant: refused in strict mode, unless the value was neutral."""

FailureKind = Literal[
    "connect", "connect_timeout", "dns", "blocked", "tls", "tls_timeout", "header_timeout", "timeout", "ttft_timeout",
    "stalled", "closed_pre", "truncated", "reset", "bad_body", "bad_event", "too_large", "protocol", "encoding",
    "redirect", "rate_limit", "quota", "overloaded", "server_error", "auth", "client_error", "inband_error",
    "upstream_error", "crashed", "limit",
]  # fmt: skip
"""Every way in which an upstream can fail a call; gateway.errors maps each to the status and code a caller sees."""


class Adjustment(msgspec.Struct, frozen=True, omit_defaults=True, rename={"from_": "from"}):
    """One change to what the caller sent: which parameter, what was done, from and to, and why (free text)."""

    param: str
    action: Action
    from_: Any = None
    to: Any = None
    why: str = ""


class Refusal(Exception):
    """A request that cannot be sent to this target as asked: becomes a 400 that names `param`.

    Codes: unsupported_parameter, unsupported_combination, unsupported_content, invalid_value,
    conflicting_parameters, unknown_parameter, invalid_type.
    """

    def __init__(self, message: str, param: str | None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Body:
    """A JSON object as its top-level keys, each with its exact bytes until somebody changes it.

    A body that nobody changes encodes to the very bytes it was read from; a changed one re-encodes only the changed
    values and splices the others in as they were, in their order. Values are decoded on demand and cached.
    """

    __slots__ = ("_raw", "_source", "_values", "headers")

    def __init__(self, source: bytes) -> None:
        """Parse `source`; msgspec.DecodeError (ValidationError for a non-object) when it is not a JSON object."""
        self._source: bytes | None = source
        self._raw: dict[str, Any] = _decode_raw(source)
        self._values: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        """Values that rules moved out of the body: header name (lower case) to value."""

    def __contains__(self, name: str) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def items(self) -> Iterator[tuple[str, bytes | msgspec.Raw]]:
        """Every key with its JSON bytes as first read; only for a body that was not changed yet."""
        return iter(self._raw.items())

    def get(self, name: str, default: Any = None) -> Any:
        """The decoded value, or `default` when the key is absent. Treat what comes back as read-only; use `set`."""
        values = self._values
        if name in values:
            return values[name]
        raw = self._raw.get(name)
        if raw is None:
            return default
        value = values[name] = _decode_any(raw) if type(raw) is msgspec.Raw else raw
        return value

    def raw(self, name: str) -> bytes | None:
        """The value's JSON bytes, or None when the key is absent."""
        value = self._raw.get(name)
        if value is None:
            return None if name not in self._raw else b"null"
        return bytes(value) if type(value) is msgspec.Raw else _encode(value)

    def set(self, name: str, value: Any) -> None:
        """Change or add a key; a changed key keeps its place."""
        self._source = None
        self._raw[name] = msgspec.Raw(b"null") if value is None else value
        self._values[name] = value

    def pop(self, name: str) -> Any:
        """Remove a key and return its decoded value (None when it was absent)."""
        if name not in self._raw:
            return None
        value = self.get(name)
        self._source = None
        del self._raw[name]
        self._values.pop(name, None)
        return value

    def drop_nulls(self) -> None:
        """Remove the keys whose value is null: in OpenAI's API that is the same as leaving them out."""
        nulls = [name for name, raw in self._raw.items() if type(raw) is msgspec.Raw and len(raw) == 4 and bytes(raw) == b"null"]
        for name in nulls:
            self.pop(name)

    def rename(self, old: str, new: str) -> None:
        """Move a value's bytes to another key."""
        self._source = None
        self._raw[new] = self._raw.pop(old)
        if old in self._values:
            self._values[new] = self._values.pop(old)

    def copy(self) -> Body:
        """An independent body; values are shared, as nobody may change them in place."""
        twin = Body.__new__(Body)
        twin._source = self._source
        twin._raw = self._raw.copy()
        twin._values = self._values.copy()
        twin.headers = self.headers.copy()
        return twin

    def encode(self) -> bytes:
        """The JSON bytes: the source itself when nothing was changed."""
        if self._source is None:
            self._source = _encode(self._raw)
        return self._source


class Target(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Where one attempt can go: a provider's model at an address with a credential.

    `base_url` is everything before the operation's path, version included, without a trailing slash. A unix socket
    is `unix:/path/to.sock` + `base_url` for the path part; None is TCP. `options` are the provider's own settings
    from the YAML (for example `anthropic_version`).
    """

    name: str
    """`provider/model` as the operator wrote it: shown to callers, in logs and metrics."""
    provider: str
    """The provider's name in the YAML (not its type)."""
    kind: Provider
    model: str
    base_url: str
    credential: str | None = None
    socket: str | None = None
    options: Mapping[str, Any] = {}
    headers: tuple[tuple[str, str], ...] = ()
    """Extra request headers from the YAML."""


TIMES = "times"
"""Memo of Options: a decoder's record of how long parts of the answer took, in seconds, by the names of Cerebras' `time_info`."""


class Options(msgspec.Struct, frozen=True):
    """How a body is to be adapted: refuse or adjust what is lossy, streamed or not, for which operation."""

    strict: bool = False
    stream: bool = False
    operation: Operation = "chat"
    memo: dict[str, Any] = {}
    """What `adapt` leaves for `decode` and `decoder` of the same attempt; so an Options is made for each attempt anew."""


class WireRequest(msgspec.Struct):
    """One HTTP request, ready but for host, content-length and accept-encoding, which the transport writes.

    `path` is absolute (base path included) with its query; header names are lower case.
    """

    path: str
    headers: list[tuple[str, str]]
    body: bytes
    method: str = "POST"
    written: bool = False
    """Set by the transport when the request goes out: until then no upstream knows of it."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer. `estimated` when the provider did not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cache_write_tokens: int = 0
    """Prompt tokens that the provider put into its cache, which some bill dearer."""

    def plus(self, other: Usage) -> Usage:
        """Both together; an estimate when either is one."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
            self.cache_write_tokens + other.cache_write_tokens,
        )


class Answer(msgspec.Struct):
    """A decoded JSON answer: OpenAI-format bytes, usage (None when unstated) and the finish reasons by choice."""

    body: bytes
    usage: Usage | None = None
    finish_reasons: tuple[str | None, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()


class Failure(msgspec.Struct, frozen=True):
    """Why an attempt failed. `status`, `code`, `param`, `type` are the upstream's own words where it had any.

    `retry_after` in seconds when the upstream named a sane one; `message` has no secret in it.
    """

    kind: FailureKind
    message: str
    status: int = 0
    code: str | None = None
    param: str | None = None
    type: str | None = None
    retry_after: float | None = None
    redacted: int = 0
    """Secrets that were cut out of what the upstream said."""


class StreamFailure(Exception):
    """An upstream's error inside a stream, raised by a StreamDecoder."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Probabilities(msgspec.Struct):
    """Probabilities of the next token, by token text."""

    by_token: dict[str, float]
    first_token_only: list[str] = []
    """Requested entries of several tokens: their probability is that of their first token."""


class StreamDecoder(Protocol):
    """Turns the events of one upstream stream into OpenAI chunks. Stateful, no I/O. Subclass it to inherit `end`."""

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """Return the JSON chunks (or b"[DONE]") for one event: its `event:` name ("" if none) and its data.

        Raises StreamFailure if the event reports an error.
        """
        ...

    def end(self) -> Sequence[bytes]:
        """Return the chunks to send before an upstream [DONE]."""
        return ()


Chain = Generator[Body, bytes, bytes]
"""Yields adapted bodies, receives the answer to each, returns the combined answer. No I/O."""

ProbabilitySteps = Generator[WireRequest, bytes, Probabilities]
"""Yields requests, receives the body of each answer, returns the probabilities. No I/O."""

FindProbabilities = Callable[[Body, Target, Options, int | None, Sequence[str] | None], ProbabilitySteps]
"""Takes an adapted chat body, target, options, how many tokens to list (`top_k`) and the only tokens to list (`vocabulary`)."""

_SettingsType = type[msgspec.Struct]


class Provider(Protocol):
    """One vendor or engine and its wire.

    Subclass it to inherit the defaults of the optional members, which have a value or a body here. A plugin that does
    not is given the same defaults when it is loaded.
    """

    type: str
    """The word in the YAML's `type:`."""
    default_base_url: str | None
    needs_credential: bool
    options_type: _SettingsType | None = None
    """The provider's own settings in the YAML."""
    operations: frozenset[Operation] = frozenset({"chat"})
    """Operations with a path of their own. `logits` is emulated by chat if it is missing here; `adapt` refuses the others."""
    caller_headers: tuple[str, ...] = ()
    """Request headers (lower case) that the gateway forwards from the caller. It forwards no others."""
    always_streams: bool = False
    """The upstream always answers with a stream. The gateway aggregates it for callers that did not ask for one."""
    prefill: Mapping[str, Any] | None = None
    """Fields to add so that a final assistant message is continued. None: this provider cannot continue an answer."""
    probabilities: FindProbabilities | None = None
    """Finds exact next-token probabilities by several requests. None: the gateway reads them from `top_logprobs`."""

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        """Apply the rules to `body` in place. Raises Refusal if a value can be neither sent nor adjusted."""
        ...

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        """Return the request for an adapted body, including the headers that rules moved out of it."""
        ...

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        """Return the answer in OpenAI's format. Raises ValueError (or msgspec.DecodeError) if `body` is not an answer."""
        ...

    def decoder(self, target: Target, options: Options) -> StreamDecoder | None:
        """Return a decoder for one stream. None: the upstream's events are OpenAI chunks that end in [DONE]."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        """Classify an error response. Never raises, and never returns the target's credential."""
        ...

    def capabilities(self, model: str) -> Mapping[str, Any]:
        """Return, by parameter, what `model` supports and what is adjusted; derived from the rules."""
        ...

    def chained(self, body: Body, options: Options) -> Chain | None:
        """Return the requests that together honour an adapted body. None: one request is enough."""
        return None

    def probe_headers(self, target: Target) -> list[tuple[str, str]]:
        """Return the headers of a health probe, credential included."""
        return []
