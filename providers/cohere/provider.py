"""The provider for Cohere's v2 API: its rules and errors. Sources: cohere 7.3.1, docs.cohere.com/reference/embed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.base import Answer, Failure, Options, StreamDecoder, Target
from providers.cohere.answers import ChatStream, read_chat, read_vectors
from providers.openai_compatible import OpenAICompatible, Wire, base_path
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import ContentParts, Message, MessageRule, Roles
from providers.rules.names import OutputCap, Rename
from providers.rules.pairs import Excludes
from providers.rules.rule import Accepts, Rule, Work
from providers.rules.schema_descriptions import described_schema
from providers.rules.schemas import StrictFormat, StrictTools
from providers.rules.shapes import Choices, StopSequences, StreamUsage, Tools
from providers.rules.values import Default, Drop, EnforcedLocally, MapValues, OneOf, Range
from providers.schema_dialects import COHERE_SCHEMAS, COHERE_TOOL_SCHEMAS


class CohereTools(Rule, frozen=True):
    """Removes unknown fields from functions. If one function sets `strict`, strict_tools applies to all of them."""

    def apply(self, work: Work) -> None:
        tools = work.body.get(self.param)
        if not tools:
            return
        plain = [{"type": "function", "function": _function(tool["function"])} for tool in tools]
        if any(tool["function"].get("strict") for tool in tools) and "strict_tools" not in work.body:
            work.body.set("strict_tools", True)
            work.report(f"{self.param}[].function.strict", "reshape", to="strict_tools", why="it applies to all tools")
        if plain != tools:
            work.body.set(self.param, plain)
            work.report(self.param, "reshape", why="only name, description and parameters are supported; strict is sent as strict_tools")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes"}}


def _function(function: dict[str, Any]) -> dict[str, Any]:
    fields = {name: function[name] for name in ("name", "description") if function.get(name) is not None}
    return {**fields, "parameters": function.get("parameters") or {"type": "object", "properties": {}}}


class ForcedChoice(Rule, frozen=True):
    """Converts tool_choice to REQUIRED or NONE. `auto` is dropped, because it is the default."""

    def apply(self, work: Work) -> None:
        """Convert the choice. Without tools, refuse every choice but `none`. Drop a named function, which Cohere does not support."""
        value = work.body.get(self.param)
        if not work.body.get("tools"):
            if value is not None and value != "none":
                raise work.refuse(self.param, "it requires 'tools'")
            value = None
        if value in ("required", "none"):
            work.body.set(self.param, value.upper())
            work.report(self.param, "reshape", from_=value, to=value.upper())
        elif value is None or value == "auto":
            work.body.pop(self.param)
            work.report(self.param, "drop", why="auto is the default")
        else:
            work.drop(self.param, "only required and none are supported")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "reshape", "values": ["auto", "none", "required"]}}


class SchemaInObject(Rule, frozen=True):
    """Converts json_schema to json_object with a schema."""

    def apply(self, work: Work) -> None:
        value = work.body.get(self.param)
        if value is None:
            return
        kind = value.get("type")
        if kind == "json_schema":
            work.body.set(self.param, {"type": "json_object", "json_schema": described_schema(value["json_schema"])})
            work.report(self.param, "reshape", why="sent as json_object with a json_schema")
        elif kind == "json_object" and "schema" in value:
            work.body.set(self.param, {"type": "json_object", "json_schema": value["schema"]})
            work.report(self.param, "reshape", why="the schema is sent as json_schema")
        elif kind not in ("text", "json_object"):
            work.drop(self.param)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "reshape", "values": ["text", "json_object", "json_schema"]}}


class WithoutNullContent(MessageRule, frozen=True):
    """Removes null fields: an assistant message with tool calls must have no content, not even null."""

    def is_relevant(self, raw: bytes) -> bool:
        return b"null" in raw

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Remove all fields that are null. The meaning of a message does not change."""
        plain = [{key: value for key, value in message.items() if value is not None} for message in messages]
        if plain == messages:
            return None
        work.report("messages", "reshape", why="fields that are null are left out")
        return plain


class Thinking(Rule, frozen=True):
    """Converts reasoning_budget to thinking.token_budget."""

    def apply(self, work: Work) -> None:
        budget = work.body.pop(self.param)
        if type(budget) is int and budget > 0:
            work.body.set("thinking", {"type": "enabled", "token_budget": budget})
            work.report(self.param, "reshape", to="thinking.token_budget")
        elif budget is not None:
            raise work.refuse(self.param, "it must be a positive integer", "invalid_type")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "reshape", "to": "thinking.token_budget"}}


_OFF = {"type": "disabled"}
_BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_768, "max": 32_768}
"""Token budgets for OpenAI's effort levels. Cohere defines none, so these are the gateway's own."""
_EFFORTS = (("none", _OFF), *((word, {"type": "enabled", "token_budget": budget}) for word, budget in _BUDGETS.items()))


class Texts(Rule, frozen=True):
    """Converts `input` to `texts`, which is always a list."""

    def apply(self, work: Work) -> None:
        """Rename the inputs."""
        value = work.body.get(self.param)
        work.body.rename(self.param, "texts")
        work.report(self.param, "rename", to="texts")
        if type(value) is str:
            work.body.set("texts", [value])


def first_version(base_path: str) -> str | None:
    """Return the path of version 1 of the API, given the path of a base URL, or None if that path does not end in `/v2`."""
    return base_path[:-1] + "1" if base_path.endswith("/v2") else None


class Cohere(OpenAICompatible):
    """Cohere's answers, streams and errors."""

    def path(self, target: Target, operation: str) -> str:
        """Return the absolute path of an operation. Calls of version 1 use `/v1` instead of the `/v2` at the end of the base URL."""
        first = first_version(base_path(target.base_url)) if operation == "cohere_embed_v1" else None
        return super().path(target, operation) if first is None else first + self.wire.paths[operation]

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        if options.operation == "embeddings":
            return read_vectors(body, target.model)
        if options.operation == "rerank":
            return super().decode(body, target, options)
        return read_chat(body, int(time.time()), target.model)

    def decoder(self, target: Target, options: Options) -> StreamDecoder:
        return ChatStream(int(time.time()), target.model)

    def models_path(self, base: str) -> str | None:
        """Return the path in version 1 of the API, because version 2 has no list of models (docs.cohere.com/reference/list-models)."""
        return f"{base.removesuffix('/v2')}/v1/models?page_size=1000"

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        """Classify an error response. Status 498 means an invalid token, and 499 a cancelled request."""
        failure = super().failure(status, headers, body, target)
        if status == 498:
            return msgspec.structs.replace(failure, kind="auth")
        return msgspec.structs.replace(failure, kind="server_error") if status == 499 else failure


MAX_STOPS = 5
_NATIVE_EMBED = (EnforcedLocally("timeout_microseconds", why="the gateway applies this time limit itself"),)
_NATIVE_CHAT = (
    EnforcedLocally("timeout_microseconds", why="the gateway applies this time limit itself"),
    Range("temperature", 0),
    Range("p", 0.01, 0.99),
    Range("k", 0, 500),
    Range("frequency_penalty", 0, 1),
    Range("presence_penalty", 0, 1),
    Excludes("response_format", ("tools", "documents")),
)
"""The rules for native requests of chat. Other fields are passed unchanged. Source: docs.cohere.com/reference/chat."""

COHERE = Cohere(
    "cohere",
    Wire(
        label="Cohere",
        base_url="https://api.cohere.com/v2",
        paths={
            "chat": "/chat",
            "cohere_chat": "/chat",
            "cohere_embed": "/embed",
            "cohere_embed_v1": "/embed",
            "embeddings": "/embed",
            "rerank": "/rerank",
        },
        source="cohere 7.3.1",
    ),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream seed logprobs thinking documents citation_options safety_mode priority strict_tools"),
        Accepts("stop_sequences p k"),
        Roles(accepts=("system", "user", "assistant", "tool")),
        ContentParts(accepts=("text", "image_url", "thinking")),
        WithoutNullContent(),
        OutputCap("max_tokens"),
        Range("temperature", 0),
        Range("top_p", 0.01, 0.99),
        Rename("top_p", "p"),
        Range("top_k", 0, 500),
        Rename("top_k", "k"),
        Range("frequency_penalty", 0, 1),
        Range("presence_penalty", 0, 1),
        Choices(param="n", best_effort_seed=True),
        StopSequences("stop", limit=MAX_STOPS),
        LegacyFunctions("functions"),
        Tools("tools"),
        StrictTools(dialect=COHERE_TOOL_SCHEMAS),
        CohereTools("tools"),
        ForcedChoice("tool_choice"),
        Excludes("response_format", ("tools", "documents")),
        StrictFormat(dialect=COHERE_SCHEMAS),
        SchemaInObject("response_format"),
        StreamUsage("stream_options", "always"),
        MapValues("disable_reasoning", "thinking", ((True, _OFF), (False, None)), shown_as="thinking.type"),
        Thinking("reasoning_budget"),
        MapValues("reasoning_effort", "thinking", _EFFORTS, shown_as="thinking"),
        Drop("user", why="no such field"),
        Drop("parallel_tool_calls", why="no such field"),
    ),
    {
        "embeddings": (
            OneOf("embedding_types", (["float"],), refuse=True),
            Default("input_type", "search_document", why="required; use search_query to embed queries"),
            Default("embedding_types", ["float"], why="the gateway converts the vectors"),
            Default("truncate", "NONE", why="long inputs are an error, as with OpenAI"),
            Texts("input"),
        ),
        "cohere_chat": _NATIVE_CHAT,
        "cohere_embed": _NATIVE_EMBED,
        "cohere_embed_v1": _NATIVE_EMBED,
    },
)
