"""Adapts a request body to one target: the provider's rules, and the features that the gateway emulates.

Attempts adapt the body that they send; the router and `explain` adapt a copy to determine the adjustments.
"""

from __future__ import annotations

import msgspec

import providers
from gateway.emulate import completions, json_mode, logits
from gateway.emulate.tool_calls import FUNCTION_FIELDS, ToolCalls, functions_of, read_tool_calls
from providers.base import Adjustment, Body, Operation, Options, Refusal, Target
from providers.rules.fan_out import seeds_sent

ONE_BY_ONE = ("fan_out", "enforce_locally")
"""Actions on `n` after which each choice has a request, and a seed, of its own."""


class AdaptedBody(msgspec.Struct, frozen=True):
    """A body that a target accepts, and the processing of its answer."""

    body: Body
    options: Options
    adjustments: list[Adjustment]
    logits_request: logits.LogitsRequest | None = None
    """The probabilities to read from a chat completion, if the provider has no operation for them."""
    json_validator: json_mode.JsonValidator | None = None
    """Validates the answer in JSON mode."""
    tool_calls: ToolCalls | None = None
    """Converts and checks the tool calls of the answer."""


def adapt_body(
    body: Body, target: Target, operation: Operation, *, strict: bool, stream: bool = False, may_repair: bool = False
) -> AdaptedBody:
    """Adapt `body`, which may be changed in place. Raise Refusal if the target cannot honour the request."""
    if operation == "logits" and not logits.is_native(target.kind):
        options, request = Options(strict), logits.read_request(body)
        chat = logits.to_chat(body, request)
        return AdaptedBody(chat, options, logits.adapt(chat, request, target, options), logits_request=request)
    notes: list[Adjustment] = []
    if operation == "completions" and operation not in target.kind.operations:
        operation, notes = "chat", completions.to_chat(body, target, strict=strict)
    if operation not in target.kind.operations:
        offering = ", ".join(name for name in providers.types() if operation in providers.get(name).operations)
        raise Refusal(f"{target.name} does not offer {operation}. These provider types do: {offering}.", None, "unsupported_operation")
    options = Options(strict, stream, operation)
    source = body.copy() if operation == "chat" and body.has_any(FUNCTION_FIELDS) else None
    body, adjustments, validator = json_mode.adapt(body, target, options, may_repair=may_repair)
    for adjustment in adjustments:
        if adjustment.param == "n" and adjustment.action in ONE_BY_ONE and (seeds := seeds_sent(body, int(adjustment.from_))) is not None:
            adjustments = [*adjustments, seeds]
            break
    if notes:
        adjustments = [*notes, *adjustments]
    tool_calls = read_tool_calls(options, functions_of(source)) if options.memo else None
    return AdaptedBody(body, options, adjustments, json_validator=validator, tool_calls=tool_calls)
