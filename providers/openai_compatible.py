"""OpenAI's wire, and `OpenAICompatible` for everyone who speaks it: one literal of rules, or a subclass for quirks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from providers.answers import Repair, read_answer, read_embeddings, read_logits
from providers.base import Adjustment, Answer, Body, Failure, Operation, Options, Provider, Refusal, StreamDecoder, Target, WireRequest
from providers.failures import read_failure
from providers.rules.common import GATEWAY_RULES
from providers.rules.engine import CompiledRules, ForModels, Rule, UnknownPolicy, compile_rules
from providers.rules.shapes import Choices, StreamUsage
from providers.rules.values import OutputCap

PATHS: Mapping[str, str] = MappingProxyType({"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"})
"""Operation to path, after a base URL that ends in the version."""

USER_AGENT = "lockgate"
_HEADERS = "headers sent"
"""Where a target remembers them."""
_json_string = msgspec.json.Encoder().encode


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings that every provider has."""

    max_fanout: Annotated[
        int,
        Meta(
            description="Maximum number of upstream requests that one call with `n` may become.",
            examples=[16],
        ),
    ] = 8


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """What distinguishes one OpenAI-speaking vendor's wire from OpenAI's."""

    label: str
    """The vendor's name in messages to people."""
    base_url: str | None
    """Everything before the operation's path, version included; None: the operator must say."""
    needs_credential: bool = True
    unknown: UnknownPolicy = "drop"
    """Fields that no rule knows: dropped and reported, passed, or passed only where they are nobody's parameter (`new`)."""
    accepts_nulls: bool = False
    """A field that is null is as good as none; otherwise it is left out."""
    paths: Mapping[str, str] = PATHS
    options: type[msgspec.Struct] = Settings
    """The provider's own settings in the YAML."""
    setting_headers: tuple[tuple[str, str], ...] = ()
    """Settings that are sent as a header, unless the caller's request sets it: setting, header."""
    repairs: tuple[Repair, ...] = ()
    """What JSON answers need."""
    allows_empty_answers: bool = False
    """Answers without choices are answers."""
    decoder: Callable[[Options], StreamDecoder] | None = None
    """What streams need; None: nothing."""
    prefill: Mapping[str, Any] | None = None
    """Fields of a request whose last message is the beginning of an answer to be gone on with; None: it cannot be asked for that."""
    caller_headers: tuple[str, ...] = ()
    """Headers of the caller (lower case) that go on to this vendor; no other header of a caller ever does."""
    source: str = ""
    """Where the facts come from."""


class OpenAICompatible(Provider):
    """A provider whose wire is OpenAI's: rules for requests, a `Wire` for the rest. Quirks override methods."""

    def __init__(
        self,
        type: str,
        wire: Wire,
        rules: tuple[Rule | ForModels, ...] = (),
        others: Mapping[str, tuple[Rule | ForModels, ...]] | None = None,
    ) -> None:
        """`rules` are those of chat; `others` those of further operations, whose bodies otherwise pass untouched."""
        self.type = type
        self.wire = wire
        self.rules = rules
        self.others = others or {}
        self.default_base_url = wire.base_url
        self.needs_credential = wire.needs_credential
        self.options_type = wire.options
        self.operations = frozenset(cast("Mapping[Operation, str]", wire.paths))
        self.caller_headers = wire.caller_headers
        self.prefill = wire.prefill
        self._plans: dict[tuple[str, str], CompiledRules] = {}

    def compiled_rules(self, model: str, operation: str = "chat") -> CompiledRules:
        """The rules for one model, compiled once."""
        plan = self._plans.get((model, operation))
        if plan is None:
            if operation == "chat" or operation in self.others:
                plan = compile_rules(self.rules if operation == "chat" else self.others[operation], model, unknown=self.wire.unknown)
            else:
                plan = compile_rules(self._stream_rules() if operation == "completions" else (), model, unknown="pass")
            if len(self._plans) < 10_000:
                self._plans[model, operation] = plan
        return plan

    def _stream_rules(self) -> tuple[Rule, ...]:
        """Usage in streams comes the same way for every operation that streams."""
        return tuple(rule for rule in self.rules if isinstance(rule, StreamUsage))

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        """Apply the rules in place; Refusal when the operation or a value is not to be had here."""
        if options.operation not in self.wire.paths:
            raise Refusal(f"{self.wire.label} does not offer {options.operation}.", None, "unsupported_operation")
        if not self.wire.accepts_nulls:
            body.drop_nulls()
        return self.compiled_rules(self.model_for_rules(target), options.operation).apply(body, self.wire.label, options, target.options)

    def model_for_rules(self, target: Target) -> str:
        """The model whose rules count."""
        return target.model

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        """The request for an adapted body; `model` becomes the target's."""
        name = _json_string(target.model)
        if body.raw("model") != name:
            body.set("model", target.model)
        headers = self.headers(target)
        headers.append(("accept", "text/event-stream" if options.stream else "application/json"))
        for setting, header in self.wire.setting_headers:
            if target.options.get(setting) is not None and header not in body.headers:
                headers.append((header, str(target.options[setting])))
        headers += body.headers.items()
        return WireRequest(self.path(target, options.operation), headers, body.encode())

    def headers(self, target: Target) -> list[tuple[str, str]]:
        """Content type, credential and the operator's own headers, which win; put together once for each target."""
        known = target.__dict__.get(_HEADERS)
        if known is None:
            known = target.__dict__[_HEADERS] = tuple(self._headers(target))
        return list(known)

    def _headers(self, target: Target) -> list[tuple[str, str]]:
        own = {name.lower() for name, _ in target.headers}
        ours = [("content-type", "application/json"), ("user-agent", USER_AGENT), *self.authorization(target)]
        return [(name, value) for name, value in ours if name not in own] + [(name.lower(), value) for name, value in target.headers]

    def probe_headers(self, target: Target) -> list[tuple[str, str]]:
        """Return the headers of a request without a body."""
        return [(name, value) for name, value in self.headers(target) if name != "content-type"]

    def authorization(self, target: Target) -> list[tuple[str, str]]:
        """The headers that carry the credential."""
        return [("authorization", f"Bearer {target.credential}")] if target.credential else []

    def path(self, target: Target, operation: str) -> str:
        """The absolute path of an operation."""
        return base_path(target.base_url) + self.wire.paths[operation]

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        """The answer; its own bytes where nothing had to change. ValueError when it is none."""
        if options.operation == "embeddings":
            return read_embeddings(body)
        if options.operation == "logits":
            return read_logits(body)
        return read_answer(body, self.wire.repairs, may_be_empty=self.wire.allows_empty_answers)

    def decoder(self, target: Target, options: Options) -> StreamDecoder | None:
        """A decoder for one stream, or None when its bytes are right as they are."""
        return None if self.wire.decoder is None else self.wire.decoder(options)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        """What an error answer means; the target's credential never shows in it."""
        return read_failure(status, headers, body, credential=target.credential if target is not None else None)

    def capabilities(self, model: str) -> Mapping[str, Any]:
        """What `model` honours and what is adjusted, from the rules."""
        return self.compiled_rules(model).capabilities()


def base_path(base_url: str) -> str:
    """The path part of a base URL, without a trailing slash."""
    path = _paths.get(base_url)
    if path is None:
        path = urlsplit(base_url).path.rstrip("/")
        if len(_paths) < 10_000:
            _paths[base_url] = path
    return path


_paths: dict[str, str] = {}

COMPATIBLE = OpenAICompatible(
    "openai-compatible",
    Wire(label="this server", base_url=None, needs_credential=False, unknown="pass", accepts_nulls=True),
    (
        *GATEWAY_RULES,
        OutputCap("max_tokens", accepts_both=True),
        Choices(param="n", max_choices=128),
        StreamUsage("stream_options", only_streams=False),
    ),
)
"""Any server that speaks OpenAI's wire: what it takes is not known, so all passes but what none could mean (two caps, a list of seeds)."""
