"""The provider for Anthropic's Messages API: its settings, rules and headers.

Sources: anthropic 2.11.0; platform.claude.com on versioning (2026-10-21 removes temperature, top_p and top_k).
"""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from providers.anthropic.answers import MessageStream, read_message
from providers.anthropic.messages import Conversation
from providers.anthropic.models import MODELS, UNKNOWN, Generation, Model, name_of
from providers.anthropic.schemas import FormatAsOutputConfig
from providers.anthropic.thinking import DefaultCap, NoPrefill, Thinking
from providers.base import Adjustment, Answer, Body, Options, Refusal, StreamDecoder, Target, WireRequest
from providers.openai_compatible import OpenAICompatible, Settings, Wire
from providers.rules.common import CONTEXT_POLICY
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import SystemPrompt
from providers.rules.names import OutputCap
from providers.rules.not_given import NOT_GIVEN
from providers.rules.pairs import Excludes
from providers.rules.rule import Accepts, ForModels, Rule, Work
from providers.rules.schemas import StrictTools
from providers.rules.shapes import Choices, StopSequences, StreamUsage, Tools
from providers.rules.values import Drop, EnforcedLocally, OneOf, Range
from providers.schema_dialects import ANTHROPIC_TOOL_SCHEMAS

NEW_VERSION = "2026-10-21"


class AnthropicSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Settings of Anthropic."""

    anthropic_version: Annotated[
        str | None,
        Meta(
            description="Value of the header `anthropic-version`. With 2023-06-01, older models accept "
            "sampling parameters, and the key is sent as `x-api-key`. Default: the caller's version for calls of the "
            "Messages API, else 2026-10-21.",
            examples=["2023-06-01"],
        ),
    ] = None
    anthropic_beta: Annotated[
        str | None,
        Meta(
            description="Value of the header `anthropic-beta`: features to enable, separated by commas.",
            examples=["context-1m-2025-08-07"],
        ),
    ] = None
    default_max_tokens: Annotated[
        int,
        Meta(
            description="Output cap for calls without one, because Anthropic requires a cap.",
            examples=[8192],
        ),
    ] = 4096
    workspace: Annotated[
        str | None,
        Meta(
            description="Value of the header `anthropic-workspace-id`.",
            examples=["wrkspc_123"],
        ),
    ] = None


VERSION_HEADER = "anthropic-version"
_DATE = re.compile(r"20\d\d-\d\d-\d\d")
_VERSIONED = "target with the caller's version"
"""Key of `Options.memo`, and of the variants of a target in `Target.__dict__`."""
MAX_VERSIONS = 16


def _version(settings: Any) -> str:
    return str(settings.get("anthropic_version") or NEW_VERSION)


def with_version(target: Target, version: str) -> Target:
    """Return a target with the API version that a caller requests. Raise Refusal if the version is not a date."""
    if not _DATE.fullmatch(version):
        message = f"The header '{VERSION_HEADER}' must be a date such as {NEW_VERSION}, not {version[:40]!r}."
        raise Refusal(message, VERSION_HEADER)
    known = target.__dict__.setdefault(_VERSIONED, {})
    variant: Target | None = known.get(version)
    if variant is None:
        variant = msgspec.structs.replace(target, options={**target.options, "anthropic_version": version})
        if len(known) < MAX_VERSIONS:
            known[version] = variant
    return variant


class LegacySampling(Rule, frozen=True):
    """A sampling parameter of API versions before 2026-10-21."""

    high: float | None = None

    def apply(self, work: Work) -> None:
        """Drop the parameter in the new API version, and clamp it in older ones."""
        if _version(work.settings) >= NEW_VERSION:
            work.drop(self.param, f"version {NEW_VERSION} of Anthropic's API does not accept {self.param}")
        else:
            Range(self.param, 0, self.high).apply(work)

    def describe(self) -> dict[str, dict[str, Any]]:
        why = f"version {NEW_VERSION} of the API does not accept {self.param}; with anthropic_version 2023-06-01, older models accept it"
        return {self.param: {"support": "no", "why": why}}


class ToolBlocks(Rule, frozen=True):
    """Converts tools, tool_choice and parallel_tool_calls."""

    @property
    def params(self) -> tuple[str, ...]:
        return ("tools", "tool_choice", "parallel_tool_calls")

    def apply(self, work: Work) -> None:
        body = work.body
        tools, choice, parallel = body.get("tools"), body.get("tool_choice"), body.get("parallel_tool_calls")
        if tools:
            body.set("tools", [_tool(tool) for tool in tools])
            work.report("tools", "reshape", why="input_schema instead of parameters")
        elif choice is not None and choice != "none":
            raise work.refuse("tool_choice", "it requires 'tools'")
        if "tool_choice" in body:
            self._convert_choice(work, choice if tools else None)
        if "parallel_tool_calls" in body:
            self._disable_parallel_calls(work, tools is not None and parallel is False)

    def _convert_choice(self, work: Work, choice: Any) -> None:
        if choice is None:
            work.body.pop("tool_choice")
            work.report("tool_choice", "drop", why="neutral value")
            return
        words = {"auto": "auto", "required": "any", "any": "any", "none": "none"}
        if type(choice) is str and choice in words:
            work.body.set("tool_choice", {"type": words[choice]})
            work.report("tool_choice", "reshape", from_=choice, to=words[choice])
        elif type(choice) is dict and choice.get("type") == "function":
            work.body.set("tool_choice", {"type": "tool", "name": choice["function"]["name"]})
            work.report("tool_choice", "reshape", from_="function", to="tool")
        else:
            work.drop("tool_choice")

    def _disable_parallel_calls(self, work: Work, disable: bool) -> None:
        work.body.pop("parallel_tool_calls")
        choice = work.body.get("tool_choice") or {"type": "auto"}
        if disable and choice["type"] != "none":
            work.body.set("tool_choice", {**choice, "disable_parallel_tool_use": True})
            work.report("parallel_tool_calls", "reshape", to="tool_choice.disable_parallel_tool_use")
        else:
            work.report("parallel_tool_calls", "drop", why="equals the default")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {name: {"support": "adjusted", "action": "reshape"} for name in self.params}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    fields = {name: function[name] for name in ("name", "description", "strict") if function.get(name) is not None}
    extra = {"cache_control": tool["cache_control"]} if "cache_control" in tool else {}
    return {**fields, "input_schema": schema, **extra}


class EndUser(Rule, frozen=True):
    """Converts `user` or `safety_identifier` to metadata.user_id. Other metadata is dropped."""

    @property
    def params(self) -> tuple[str, ...]:
        return ("metadata", "user", "safety_identifier")

    def apply(self, work: Work) -> None:
        """Convert the first of the two parameters that is set."""
        metadata = work.body.get("metadata")
        if "metadata" in work.body and (type(metadata) is not dict or set(metadata) != {"user_id"}):
            work.drop("metadata", "metadata supports only user_id")
        for name in ("user", "safety_identifier"):
            if name not in work.body:
                continue
            value = work.body.get(name)
            if value is None or "metadata" in work.body:
                work.body.pop(name)
                work.report(name, "drop", why="neutral value" if value is None else "metadata.user_id is set already")
            else:
                work.body.pop(name)
                work.body.set("metadata", {"user_id": value})
                work.report(name, "reshape", to="metadata.user_id")

    def describe(self) -> dict[str, dict[str, Any]]:
        entry = {"support": "adjusted", "action": "reshape", "to": "metadata.user_id"}
        return {"metadata": {"support": "no", "why": "metadata supports only user_id"}, "user": entry, "safety_identifier": entry}


class Anthropic(OpenAICompatible):
    """Anthropic's headers, answers and streams."""

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        """Apply the rules. The API version of a native request applies unless the configuration sets a version."""
        version = body.headers.pop(VERSION_HEADER, None)
        if version is None:
            return super().adapt(body, target, options)
        configured = target.options.get("anthropic_version")
        if configured is not None:
            changed = Adjustment(VERSION_HEADER, "reshape", version, configured, "the configuration sets it")
            return [*([changed] if version != configured else []), *super().adapt(body, target, options)]
        options.memo[_VERSIONED] = versioned = with_version(target, version)
        return super().adapt(body, versioned, options)

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        return super().encode(body, options.memo.get(_VERSIONED, target), options)

    def models_path(self, base: str) -> str | None:
        return f"{base}/models?limit=1000"

    def authorization(self, target: Target) -> list[tuple[str, str]]:
        """Return the header with the API version, and the header in which this version expects the credential."""
        version = _version(target.options)
        headers = [("anthropic-version", version)]
        if target.credential:
            new = version >= NEW_VERSION
            headers.append(("authorization", f"Bearer {target.credential}") if new else ("x-api-key", target.credential))
        return headers

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        return read_message(body, int(time.time()))

    def decoder(self, target: Target, options: Options) -> StreamDecoder:
        return MessageStream(int(time.time()))


_REJECTED = "this model rejects sampling settings"


def _own_rules(model: Model) -> tuple[Rule, ...]:
    """Return the rules of a model for the fields that chat completions and Messages have in common."""
    sampling: tuple[Rule, ...] = tuple(Drop(name, why=_REJECTED) for name in ("temperature", "top_p", "top_k"))
    if model.sampling != "none":
        sampling = (LegacySampling("temperature", 1), LegacySampling("top_p", 1), LegacySampling("top_k"))
    excluded = (Excludes("top_p", ("temperature",)),) if model.sampling == "one" else ()
    return (*sampling, Thinking(model=model), *excluded)


def _native_generation(model: Model) -> Generation:
    """Return the rules for native requests to the models of one row."""
    return Generation((name_of(model),), (*_own_rules(model), *(() if model.prefill else (NoPrefill(),))), model)


def _generation(model: Model) -> Generation:
    """Return the rules for one row of the table of models."""
    rules = (
        *_own_rules(model),
        *(() if model.schemas else (Drop("response_format", why="this model has no structured output"),)),
        *(() if model.prefill else (NoPrefill(),)),
        _CAP,
    )
    return Generation((name_of(model),), rules, model)


_CAP = DefaultCap("max_tokens", 4096, why="required upstream", setting="default_max_tokens")

ANTHROPIC = Anthropic(
    "anthropic",
    Wire(
        label="Anthropic",
        base_url="https://api.anthropic.com/v1",
        paths={"chat": "/messages", "messages": "/messages"},
        options=AnthropicSettings,
        prefill={},
        setting_headers=(("anthropic_beta", "anthropic-beta"), ("workspace", "anthropic-workspace-id")),
        source="anthropic 2.11.0, platform.claude.com/docs/en/api/versioning",
    ),
    (
        SystemPrompt(),
        *NOT_GIVEN,
        EnforcedLocally("timeout_microseconds", why="the gateway applies this time limit itself"),
        *CONTEXT_POLICY,
        Accepts("model stream cache_control container context_management diagnostics inference_geo speed stop_sequences"),
        Conversation("messages"),
        OutputCap("max_tokens"),
        LegacySampling("temperature", 1),
        LegacySampling("top_p", 1),
        LegacySampling("top_k"),
        StopSequences("stop"),
        LegacyFunctions("functions", one_call=True),
        Tools("tools"),
        StrictTools(dialect=ANTHROPIC_TOOL_SCHEMAS),
        ToolBlocks("tools"),
        FormatAsOutputConfig("response_format"),
        Thinking(model=UNKNOWN),
        _CAP,
        EndUser("user"),
        Choices(param="n", has_seed=False),
        StreamUsage("stream_options", "always"),
        OneOf("service_tier", ("auto", "standard_only")),
        *map(_generation, MODELS),
        ForModels(("claude-2",), _generation(MODELS[-1]).rules),
    ),
    {
        "messages": (
            EnforcedLocally("timeout_microseconds", why="the gateway applies this time limit itself"),
            LegacySampling("temperature", 1),
            LegacySampling("top_p", 1),
            LegacySampling("top_k"),
            Thinking(model=UNKNOWN),
            OneOf("service_tier", ("auto", "standard_only")),
            *map(_native_generation, MODELS),
            ForModels(("claude-2",), _native_generation(MODELS[-1]).rules),
        ),
    },
)
