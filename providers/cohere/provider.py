"""Cohere's v2 chat API: OpenAI's chat in, OpenAI's chat out. Facts: cohere 7.3.1."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.base import Answer, Failure, Options, StreamDecoder, Target
from providers.cohere.answers import ChatStream, read_chat
from providers.openai_compatible import OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.engine import Accepts, Rule, Work
from providers.rules.messages import ContentParts, DropField, Message, MessageRule, Roles
from providers.rules.pairs import Excludes
from providers.rules.shapes import Choices, LegacyFunctions, StopSequences, StreamUsage, Tools
from providers.rules.values import Drop, MapValues, OutputCap, Range, Rename


class CohereTools(Rule, frozen=True):
    """Functions with what Cohere knows of them; `strict` on any of them is strict_tools for all."""

    def apply(self, work: Work) -> None:
        """Reshape the tools that say more."""
        tools = work.body.get(self.param)
        if not tools:
            return
        plain = [{"type": "function", "function": _function(tool["function"])} for tool in tools]
        if any(tool["function"].get("strict") for tool in tools) and "strict_tools" not in work.body:
            work.body.set("strict_tools", True)
        if plain != tools:
            work.body.set(self.param, plain)
            work.report(self.param, "reshape", why="name, description and parameters; strict is strict_tools")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes"}}


def _function(function: dict[str, Any]) -> dict[str, Any]:
    known = {name: function[name] for name in ("name", "description") if function.get(name) is not None}
    return {**known, "parameters": function.get("parameters") or {"type": "object", "properties": {}}}


class ForcedChoice(Rule, frozen=True):
    """tool_choice REQUIRED or NONE; auto is what it does anyway."""

    def apply(self, work: Work) -> None:
        """Reshape it; a named function cannot be asked for."""
        value = work.body.get(self.param)
        if not work.body.get("tools"):
            if value is not None and value != "none":
                raise work.refuse(self.param, "it needs 'tools'")
            value = None
        if value in ("required", "none"):
            work.body.set(self.param, value.upper())
            work.report(self.param, "reshape", from_=value, to=value.upper())
        elif value is None or value == "auto":
            work.body.pop(self.param)
            work.report(self.param, "drop", why="auto is what it does anyway")
        else:
            work.drop(self.param, "it takes required or none, no named function")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "reshape", "values": ["auto", "none", "required"]}}


class SchemaInObject(Rule, frozen=True):
    """json_schema as json_object with a json_schema."""

    def apply(self, work: Work) -> None:
        """Reshape it."""
        value = work.body.get(self.param)
        if value is None:
            return
        kind = value.get("type")
        if kind == "json_schema":
            work.body.set(self.param, {"type": "json_object", "json_schema": value["json_schema"].get("schema") or {}})
            work.report(self.param, "reshape", why="json_object with a json_schema")
        elif kind == "json_object" and "schema" in value:
            work.body.set(self.param, {"type": "json_object", "json_schema": value["schema"]})
            work.report(self.param, "reshape", why="the schema is called json_schema")
        elif kind not in ("text", "json_object"):
            work.drop(self.param)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "reshape", "values": ["text", "json_object", "json_schema"]}}


class WithoutNullContent(MessageRule, frozen=True):
    """An assistant turn of tool calls has no content at all, rather than null."""

    def is_relevant(self, raw: bytes) -> bool:
        return b"null" in raw

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Leave the nulls out; that says the same."""
        plain = [{key: value for key, value in message.items() if value is not None} for message in messages]
        return plain if plain != messages else None


class Thinking(Rule, frozen=True):
    """reasoning_budget as thinking.token_budget."""

    def apply(self, work: Work) -> None:
        """Reshape it."""
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
"""Our choice of what OpenAI's words cost here."""
_EFFORTS = (("none", _OFF), *((word, {"type": "enabled", "token_budget": budget}) for word, budget in _BUDGETS.items()))


class Cohere(OpenAICompatible):
    """Cohere's wire."""

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        """The answer in OpenAI's form. ValueError when it is none."""
        return read_chat(body, int(time.time()), target.model)

    def decoder(self, target: Target, options: Options) -> StreamDecoder:
        """A decoder for one stream."""
        return ChatStream(int(time.time()), target.model)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        """What an error answer means: 498 is an invalid token, 499 a request that was cancelled."""
        found = super().failure(status, headers, body, target)
        if status == 498:
            return msgspec.structs.replace(found, kind="auth")
        return msgspec.structs.replace(found, kind="server_error") if status == 499 else found


COHERE = Cohere(
    "cohere",
    Wire(label="Cohere", base_url="https://api.cohere.com/v2", paths={"chat": "/chat"}, source="cohere 7.3.1"),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream seed logprobs thinking documents citation_options safety_mode priority strict_tools"),
        Accepts("stop_sequences p k"),
        Roles(accepts=("system", "user", "assistant", "tool")),
        ContentParts(accepts=("text", "image_url")),
        DropField(field="name"),
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
        StopSequences("stop", limit=5),
        LegacyFunctions("functions"),
        Tools("tools"),
        CohereTools("tools"),
        ForcedChoice("tool_choice"),
        Excludes("response_format", ("tools", "documents")),
        SchemaInObject("response_format"),
        StreamUsage("stream_options", "always"),
        MapValues("disable_reasoning", "thinking", ((True, _OFF), (False, None)), shown_as="thinking.type"),
        Thinking("reasoning_budget"),
        MapValues("reasoning_effort", "thinking", _EFFORTS, shown_as="thinking"),
        Drop("user", why="not a field"),
        Drop("parallel_tool_calls", why="not a field"),
    ),
)
