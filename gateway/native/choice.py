"""Decides whether an attempt is native or translated to a chat completion.

The choice is made for each attempt, because a call can be native at one target and translated at another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.call import Call
from gateway.dialects.native_api import GATEWAY_FIELDS, NativeApi
from providers.base import Target

if TYPE_CHECKING:
    from gateway.config.model import ModelSettings

Reason = Callable[[Call, "ModelSettings"], bool]


def is_fitted(call: Call, settings: ModelSettings) -> bool:
    """Return whether the gateway fits the conversation into the context window."""
    return call.dialect.has_messages and (call.wants_fit or settings.context is not None)


def _is_continued(call: Call, settings: ModelSettings) -> bool:
    return call.transcript is not None or (call.stream and bool(settings.continue_on_cut))


def _may_repair(call: Call, settings: ModelSettings) -> bool:
    return bool(settings.json_repair) and call.body is not None and "response_format" in call.body


def _is_unbounded(call: Call, settings: ModelSettings) -> bool:
    """Return whether a strict limit applies to content whose tokens cannot be counted, such as the tools of an MCP server."""
    api, source = call.dialect.native, call.source
    if not call.strict_limits or call.translator is None or api is None or source is None:
        return False
    return call.translator.refusal is not None or not frozenset(source) <= (api.fields - api.uncounted) | GATEWAY_FIELDS


REASONS: tuple[tuple[str, Reason], ...] = (
    ("the conversation is fitted into the context window", is_fitted),
    ("the model continues broken streams", _is_continued),
    ("the model repairs JSON answers", _may_repair),
    ("a strict limit applies, and the tokens of this content have no upper bound", _is_unbounded),
    ("the stop string stays in the text", lambda call, settings: call.keeps_stop),
)
"""Reasons to translate a call, each with the function that returns whether the reason applies."""


def native_api(call: Call, target: Target, settings: ModelSettings) -> NativeApi | None:
    """Return the caller's API if an attempt at this target is native, else None."""
    api = call.dialect.native
    return api if api is not None and translation_reason(call, target, settings) is None else None


def translation_reason(call: Call, target: Target, settings: ModelSettings) -> str | None:
    """Return the reason why an attempt at this target is translated to a chat completion, or None if it is native."""
    api, source = call.dialect.native, call.source
    if api is None or source is None or api.operation not in target.kind.operations:
        return f"{target.kind.type} does not have this API"
    if target.options.get(f"native_{api.operation}") is False:
        return f"'native_{api.operation}' of the provider is false"
    if api.unsuited_target is not None and (reason_of_target := api.unsuited_target(target)) is not None:
        return reason_of_target
    for part in target.kind.chat_only:
        if part in target.model:
            return "the model serves only chat completions"
    for reason, applies in REASONS:
        if applies(call, settings):
            return reason
    foreign = api.foreign_field(source)
    if foreign is not None:
        return f"'{foreign}' is a parameter of chat completions"
    can_be_translated = call.translator is None or call.translator.refusal is None
    return api.unsuited(source) if api.unsuited is not None and can_be_translated else None
