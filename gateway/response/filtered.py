"""Answers that a provider's content filter withheld completely: status 200, without content, with the finish reason `content_filter`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.streams.native_relay import NativeRelay
from gateway.streams.relay import Relay
from providers.base import Failure

WITHHELD = Failure("content_filter", "the provider's content filter withheld the answer", 400, "content_filter")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def is_withheld(body: bytes, finish_reasons: Sequence[str | None]) -> bool:
    """Return whether a JSON answer, in any API, has no content because of a content filter."""
    if not _all_filtered(finish_reasons):
        return False
    answer = _decode(body)
    choices = answer.get("choices")
    if type(choices) is not list:
        return not answer.get("content") and not answer.get("output")
    return not any(_has_content(choice) for choice in choices)


def is_stream_withheld(relay: Relay | NativeRelay) -> bool:
    """Return whether the first events show that a stream ends without content because of a content filter."""
    return not relay.chunks and _all_filtered(relay.finish_reasons)


def _all_filtered(finish_reasons: Sequence[str | None]) -> bool:
    return bool(finish_reasons) and all(reason == "content_filter" for reason in finish_reasons)


def _has_content(choice: Any) -> bool:
    message = choice.get("message") or {}
    return bool(message.get("content") or message.get("tool_calls") or choice.get("text"))
