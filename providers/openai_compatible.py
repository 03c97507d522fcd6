"""`OpenAICompatible`: the base of every provider whose wire format is OpenAI's, and the type `openai-compatible` itself.

A vendor is a `Wire` and a tuple of rules; a vendor with quirks is a subclass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from providers.answers import AnswerError, Repair, read_answer, read_embeddings, read_logits
from providers.base import (
    Adjustment,
    Answer,
    Body,
    Failure,
    Operation,
    Options,
    Provider,
    Refusal,
    StreamDecoder,
    StreamFailure,
    Target,
    WireRequest,
)
from providers.completion_table import COMPLETION_FIELDS
from providers.embedding_table import ANY_SERVER, EMBEDDINGS
from providers.failures import read_failure, read_inband_failure
from providers.message_tables import conversation_rules
from providers.rerank_answers import read_rerank
from providers.rerank_table import ANY_RERANKER, RERANKS
from providers.rules.common import GATEWAY_RULES
from providers.rules.completions import completion_rules
from providers.rules.embeddings import embedding_rules
from providers.rules.legacy_functions import ONLY_FUNCTIONS
from providers.rules.names import OutputCap
from providers.rules.request_headers import CALLER_HEADERS, MERGED
from providers.rules.rerank import rerank_rules
from providers.rules.rule import CompiledRules, ForModels, Rule, UnknownPolicy, compile_rules
from providers.rules.shapes import Choices, StreamUsage
from providers.rules.values import Drop, EnforcedLocally
from providers.streams import ChunkNormalizer

PATHS: Mapping[str, str] = MappingProxyType({"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"})
"""Path of each operation below a base URL that ends in the version."""
RERANK_PATH = {"rerank": "/rerank"}

NATIVE_APIS = frozenset({"cohere_chat", "cohere_embed", "cohere_embed_v1", "messages", "responses"})
"""Operations with native requests. Only the provider's rules for the operation apply; other fields are passed."""
USER_AGENT = "lockgate"
_HEADERS = "headers sent"
"""Key in `Target.__dict__` of the headers that are the same for every request to the target."""
_PASSED_TOO: Mapping[str, tuple[str, ...]] = {"tools": ("tool_choice", "parallel_tool_calls"), "functions": ("function_call",)}
"""Fields that are passed together with another one: their own rules would drop them, because those rules do not read the other field."""
NO_TEAM = Drop("team", why="it names an account at Friendli, which no other vendor may see")
_json_string = msgspec.json.Encoder().encode


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that every built-in provider has, except `local`."""

    max_fanout: Annotated[
        int,
        Meta(
            description="Maximum number of upstream requests for one call with `n`.",
            examples=[16],
        ),
    ] = 8


class NativeResponses(Settings, frozen=True, forbid_unknown_fields=True):
    """Settings of vendors with the Responses API."""

    native_responses: Annotated[
        bool,
        Meta(
            description="Pass calls of the Responses API unchanged to the vendor's Responses API. `false`: translate them to "
            "chat completions, for example because a proxy or a region lacks that API.",
            examples=[False],
        ),
    ] = True


class ServerSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Settings of servers that run a model of the operator's choice."""

    developer_as_system: Annotated[
        bool,
        Meta(
            description="Send messages of the role `developer` as `system`, because many chat templates ignore or reject "
            "the role.",
            examples=[False],
        ),
    ] = True


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """The differences between a vendor's wire format and OpenAI's."""

    label: str
    """The vendor's name in messages."""
    base_url: str | None
    """Everything before the path of the operation, version included. If None, the configuration must set it."""
    needs_credential: bool = True
    unknown: UnknownPolicy = "drop"
    """Fields without a rule are dropped and reported, passed, or passed unless another vendor defines them (`new`)."""
    accepts_nulls: bool = False
    """Whether the upstream accepts null fields. If not, they are left out."""
    paths: Mapping[str, str] = PATHS
    options: type[msgspec.Struct] = Settings
    """The provider's own settings in the configuration."""
    setting_headers: tuple[tuple[str, str], ...] = ()
    """Pairs of setting and header. A caller's header takes precedence, except for `request_headers.SETTINGS_THAT_WIN`. Lists are merged."""
    repairs: tuple[Repair, ...] = ()
    """Repairs of JSON answers."""
    allows_empty_answers: bool = False
    """Whether an answer without choices is valid."""
    decoder: Callable[[Options], StreamDecoder] | None = None
    """Creates the decoder of one stream. If None, the decoder is a `ChunkNormalizer` with `chunk_repairs`."""
    chunk_repairs: tuple[Repair, ...] = ()
    """Repairs of chunks, in addition to those of every stream."""
    chat_only: tuple[str, ...] = ()
    """Calls of other APIs become chat completions for models with one of these texts in their names."""
    hides_output: bool = False
    """Whether `total_tokens` may be the only field of `usage` that includes reasoning tokens."""
    reports_cost: bool = False
    """Whether the cost that an answer reports is what the vendor charges for it."""
    is_own_server: bool = False
    """Whether the operator runs the server, so that no vendor bills a call that is aborted."""
    prefill: Mapping[str, Any] | None = None
    """Fields that make the upstream continue a final assistant message, or None if it cannot continue one."""
    source: str = ""
    """Source of the facts."""


class OpenAICompatible(Provider):
    """A provider with OpenAI's wire format. Subclasses override methods for a vendor's quirks."""

    def __init__(
        self,
        type: str,
        wire: Wire,
        rules: tuple[Rule | ForModels, ...] = (),
        others: Mapping[str, tuple[Rule | ForModels, ...]] | None = None,
    ) -> None:
        """`rules` apply to chat, and `others` to other operations. The tables for embeddings, rerank and completions add rules.

        Native requests get only their rules in `others`. Other operations without rules get those for `timeout_microseconds` and `team`.
        """
        self.type = type
        self.wire = wire
        self.rules = rules
        self.others = others or {}
        self.default_base_url = wire.base_url
        self.needs_credential = wire.needs_credential
        self.options_type = wire.options
        self.operations = frozenset(cast("Mapping[Operation, str]", wire.paths))
        self.caller_headers = CALLER_HEADERS.get(type, ())
        self.chat_only = wire.chat_only
        self.prefill = wire.prefill
        self.reports_cost = wire.reports_cost
        self.is_own_server = wire.is_own_server
        self._plans: dict[tuple[str, str], CompiledRules] = {}

    def compiled_rules(self, model: str, operation: str = "chat") -> CompiledRules:
        """Return the rules for one model, compiled on first use."""
        plan = self._plans.get((model, operation))
        if plan is None:
            if operation in NATIVE_APIS:
                plan = compile_rules(self.others.get(operation, ()), model, unknown="pass")
            elif operation == "embeddings":
                plan = compile_rules(self._embedding_rules(model), model, unknown=self.wire.unknown)
            elif operation == "rerank":
                own = (*rerank_rules(RERANKS.get(self.type, ANY_RERANKER)), *self.others.get("rerank", ()), NO_TEAM)
                plan = compile_rules(own, model, unknown=self.wire.unknown)
            elif operation == "chat" or operation in self.others:
                rules = self.rules if operation == "chat" else self.others[operation]
                plan = compile_rules((*conversation_rules(self.type, model), *rules), model, unknown=self.wire.unknown)
            elif operation == "completions":
                rules = (*completion_rules(self.type), *self._common_rules(streams=True))
                plan = compile_rules(rules, model, unknown="drop" if self.type in COMPLETION_FIELDS else "pass")
            else:
                plan = compile_rules(self._common_rules(streams=False), model, unknown="pass")
            if len(self._plans) < 10_000:
                self._plans[model, operation] = plan
        return plan

    def _embedding_rules(self, model: str) -> tuple[Rule | ForModels, ...]:
        """Return the rules for embeddings: those of the provider's row, then the provider's own rules."""
        own = self.others.get("embeddings", ())
        team = () if any(isinstance(rule, Rule) and rule.param == "team" for rule in own) else (NO_TEAM,)
        return (*embedding_rules(EMBEDDINGS.get(self.type, ANY_SERVER), model), *own, *team)

    def _common_rules(self, *, streams: bool) -> tuple[Rule, ...]:
        """Return the rules that operations other than chat share: usage in streams, `timeout_microseconds` and `team`."""
        own = tuple(rule for rule in self.rules if isinstance(rule, Rule))
        team = tuple(rule for rule in own if rule.param == "team") or (NO_TEAM,)
        usage = (rule for rule in own if streams and isinstance(rule, StreamUsage))
        return (*usage, EnforcedLocally("timeout_microseconds", why="the gateway applies this time limit itself"), *team)

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        """Apply the rules in place. Raise Refusal if the operation is not offered or a value cannot be sent."""
        if options.operation not in self.wire.paths:
            raise Refusal(f"{self.wire.label} does not offer {options.operation}.", None, "unsupported_operation")
        nulls = () if self.wire.accepts_nulls else body.drop_nulls()
        rules = self.rules_for(target, options)
        if not target.pass_fields:
            made = rules.apply(body, self.wire.label, options, target.options)
            return [*(Adjustment(name, "drop", why="neutral value") for name in nulls), *made] if nulls else made
        # Passed fields are set aside, so that no rule can change them.
        names = (*target.pass_fields, *(name for field in target.pass_fields for name in _PASSED_TOO.get(field, ())))
        passed = {name: body.pop(name) for name in names if name in body}
        if "functions" in passed and not (passed.get("tools") or body.is_true("tools")):
            options.memo[ONLY_FUNCTIONS] = True
        adjustments = rules.apply(body, self.wire.label, options, target.options)
        for name, value in passed.items():
            body.set(name, value)
        dropped = (Adjustment(name, "drop", why="neutral value") for name in nulls)
        return [*dropped, *(adjustment for adjustment in adjustments if adjustment.param not in passed)]

    def rules_for(self, target: Target, options: Options) -> CompiledRules:
        """Return the rules for one call."""
        return self.compiled_rules(self.model_for_rules(target), options.operation)

    def model_for_rules(self, target: Target) -> str:
        """Return the model whose rules apply."""
        return target.model

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        """Return the request for an adapted body, with the target's model in it."""
        name = _json_string(target.model)
        if body.raw("model") != name:
            body.set("model", target.model)
        headers = self.headers(target)
        headers.append(("accept", "text/event-stream" if options.stream else "application/json"))
        own = body.headers
        for setting, header in self.wire.setting_headers:
            if (value := target.options.get(setting)) is None:
                continue
            if header not in own:
                headers.append((header, str(value)))
            elif header in MERGED:
                own = {**own, header: merged_list(str(value), own[header])}
        headers += own.items()
        return WireRequest(self.path(target, options.operation), headers, body.encode())

    def headers(self, target: Target) -> list[tuple[str, str]]:
        """Return the content type, user agent, credential and the operator's headers, which replace other headers of the same name."""
        cached = target.__dict__.get(_HEADERS)
        if cached is None:
            cached = target.__dict__[_HEADERS] = tuple(self._headers(target))
        return list(cached)

    def _headers(self, target: Target) -> list[tuple[str, str]]:
        configured = {name.lower() for name, _ in target.headers}
        ours = [("content-type", "application/json"), ("user-agent", USER_AGENT), *self.authorization(target)]
        return [(name, value) for name, value in ours if name not in configured] + [(name.lower(), value) for name, value in target.headers]

    def probe_headers(self, target: Target) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.headers(target) if name != "content-type"]

    def authorization(self, target: Target) -> list[tuple[str, str]]:
        """Return the headers that carry the credential."""
        return [("authorization", f"Bearer {target.credential}")] if target.credential else []

    def path(self, target: Target, operation: str) -> str:
        """Return the absolute path of an operation."""
        return base_path(target.base_url) + self.wire.paths[operation]

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        """Return the answer, with its original bytes if it needs no repair.

        Raise ValueError if `body` is not an answer, and StreamFailure if it reports an error.
        """
        if options.operation == "embeddings":
            return read_embeddings(body)
        if options.operation == "rerank":
            return read_rerank(body)
        if options.operation == "logits":
            return read_logits(body)
        try:
            return read_answer(
                body,
                self.wire.repairs,
                may_be_empty=self.wire.allows_empty_answers,
                hides_output=self.wire.hides_output,
                model=target.model,
                is_legacy=ONLY_FUNCTIONS in options.memo,
            )
        except AnswerError as error:
            failure = read_inband_failure(error.data, lambda status, data: self.failure(status, {}, data, target))
            raise StreamFailure(failure) from None

    def decoder(self, target: Target, options: Options) -> StreamDecoder | None:
        wire = self.wire
        if wire.decoder is not None:
            return wire.decoder(options)
        return ChunkNormalizer(
            wire.chunk_repairs, operation=options.operation, model=target.model, hides_output=wire.hides_output, memo=options.memo
        )

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        return read_failure(status, headers, body, credential=target.credential if target is not None else None)

    def capabilities(self, model: str) -> Mapping[str, Any]:
        return self.compiled_rules(model).capabilities()


def merged_list(first: str, second: str) -> str:
    """Return the entries of two comma-separated lists, each once."""
    return ",".join(dict.fromkeys(entry.strip() for entry in f"{first},{second}".split(",") if entry.strip()))


def base_path(base_url: str) -> str:
    """Return the path of a base URL, without a trailing slash."""
    path = _paths.get(base_url)
    if path is None:
        path = urlsplit(base_url).path.rstrip("/")
        if len(_paths) < 10_000:
            _paths[base_url] = path
    return path


_paths: dict[str, str] = {}

OPENAI_COMPATIBLE = OpenAICompatible(
    "openai-compatible",
    Wire(
        label="this server",
        base_url=None,
        needs_credential=False,
        unknown="pass",
        accepts_nulls=True,
        paths={**PATHS, **RERANK_PATH},
        options=ServerSettings,
    ),
    (
        *GATEWAY_RULES,
        OutputCap("max_tokens", accepts_both=True),
        Choices(param="n", max_choices=128),
        StreamUsage("stream_options", only_streams=False),
        NO_TEAM,
    ),
)
"""Any server with OpenAI's wire format. Its limits are unknown, so only values that are always wrong are rejected."""
