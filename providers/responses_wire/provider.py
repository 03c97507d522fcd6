"""Chooses between OpenAI's two APIs for a conversation, and sends chat completions through the Responses API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from providers.base import Adjustment, Answer, Body, Failure, Options, StreamDecoder, Target, WireRequest
from providers.openai_compatible import NativeResponses, OpenAICompatible, Wire, base_path
from providers.responses_wire.answers import read_response
from providers.responses_wire.request import CONVERSATION, ORIGIN, AsResponse, LeastCap, OwnReasoning
from providers.responses_wire.stream import ResponseStream
from providers.rules.message_pass import MessagePass
from providers.rules.rule import CompiledRules, ForModels, Rule, compile_rules
from providers.rules.tool_pass import ToolPass

PATH = "/responses"
RESHAPED = frozenset((
    "messages", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "functions", "function_call", "response_format",
    "verbosity", "reasoning_effort", "include_reasoning", "logprobs",
))  # fmt: skip
"""Fields whose form differs between the two APIs."""
_BY_RESPONSES = "chat by responses"
"""Key of `Options.memo`, set if a chat completion is sent through the Responses API; also the name of its rules."""


class OpenAISettings(NativeResponses, frozen=True, forbid_unknown_fields=True):
    """Settings of OpenAI."""

    upstream_api: Annotated[
        Literal["auto", "chat", "responses"],
        Meta(
            description="OpenAI's API for chat completions and for calls that are translated to them. `auto`: the "
            "Responses API for models that have no other, and for tools with reasoning where chat completions "
            "reject them; otherwise chat.",
            examples=["chat"],
        ),
    ] = "auto"


class Ways(msgspec.Struct, frozen=True):
    """The conditions for the choice between the two APIs, and the rules of the Responses API."""

    rules: tuple[Rule | ForModels, ...]
    is_only_way: Callable[[str], bool]
    """Whether a model has only the Responses API."""
    needs_responses: Callable[[str, Body], bool]
    """Whether chat completions reject a call that the Responses API accepts."""
    reasons: Callable[[str], bool]
    """Whether a model reasons. Other models reject a request for encrypted reasoning."""
    default_tools: Callable[[str], tuple[str, ...]]
    """The hosted tools that are added for a model that accepts no call without tools."""


class OpenAI(OpenAICompatible):
    """OpenAI's addresses, requests and answers."""

    def __init__(
        self,
        type: str,
        wire: Wire,
        rules: tuple[Rule | ForModels, ...],
        ways: Ways,
        others: Mapping[str, tuple[Rule | ForModels, ...]] | None = None,
    ) -> None:
        super().__init__(type, wire, rules, others)
        self.ways = ways

    def takes_responses(self, body: Body, target: Target) -> bool:
        """Return whether a chat completion is sent through the Responses API."""
        choice = target.options.get("upstream_api", "auto")
        if choice != "auto":
            return bool(choice == "responses")
        model = self.model_for_rules(target)
        if self.ways.is_only_way(model):
            return True
        # Passed fields stay as they are: in the form of chat completions, which the Responses API rejects.
        if any(name in body for name in target.pass_fields if name in RESHAPED):
            return False
        return self.ways.needs_responses(model, body)

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        """Apply the rules of the API to which the call is sent."""
        if options.operation == "chat" and self.takes_responses(body, target):
            options.memo[_BY_RESPONSES] = True
            options.memo[ORIGIN] = target.provider
        return super().adapt(body, target, options)

    def rules_for(self, target: Target, options: Options) -> CompiledRules:
        if _BY_RESPONSES not in options.memo:
            return super().rules_for(target, options)
        return self.compiled_rules(self.model_for_rules(target), _BY_RESPONSES)

    def compiled_rules(self, model: str, operation: str = "chat") -> CompiledRules:
        if operation != _BY_RESPONSES:
            return super().compiled_rules(model, operation)
        plan = self._plans.get((model, operation))
        if plan is None:
            own = compile_rules(self.ways.rules, model, unknown=self.wire.unknown).rules
            first = (OwnReasoning(), MessagePass(row=CONVERSATION, model=model), ToolPass(row=CONVERSATION))
            last = AsResponse(encrypts=self.ways.reasons(model), default_tools=self.ways.default_tools(model))
            plan = CompiledRules((*first, *own, LeastCap(), last), unknown=self.wire.unknown)
            if len(self._plans) < 10_000:
                self._plans[model, operation] = plan
        return plan

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        request = super().encode(body, target, options)
        if _BY_RESPONSES in options.memo:
            request.path = self.responses_path(target)
        return request

    def responses_path(self, target: Target) -> str:
        """Return the absolute path of the Responses API."""
        return base_path(target.base_url) + PATH

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        if _BY_RESPONSES not in options.memo:
            return super().decode(body, target, options)
        return read_response(body, target.provider, self._reader(target))

    def decoder(self, target: Target, options: Options) -> StreamDecoder | None:
        if _BY_RESPONSES not in options.memo:
            return super().decoder(target, options)
        return ResponseStream(target.provider, self._reader(target), int(time.time()))

    def _reader(self, target: Target) -> Callable[[int, bytes], Failure]:
        return lambda status, data: self.failure(status, {}, data, target)

    def capabilities(self, model: str) -> Mapping[str, Any]:
        """Return the capabilities in the API that most calls of the model use, without regard to the settings."""
        return self.compiled_rules(model, _BY_RESPONSES if self.ways.is_only_way(model) else "chat").capabilities()
