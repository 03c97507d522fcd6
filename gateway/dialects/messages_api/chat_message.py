"""The fields of a chat answer or chunk that a message of the Messages API shows. Texts keep their bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.messages_api.fields import ABSENT, Fields, decode_any, encode, is_given, is_text
from gateway.errors import UpstreamFailed
from providers.usage import read_usage

_FINISH_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_TIERS = {"standard": "standard", "default": "standard", "priority": "priority", "batch": "batch"}
EMPTY = b'""'
NO_USAGE = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}


class Function(msgspec.Struct):
    """The function of a tool call, or a piece of it."""

    name: Any = None
    arguments: msgspec.Raw = ABSENT


class ToolCall(msgspec.Struct):
    """A tool call, or a piece of it."""

    index: Any = None
    id: Any = None
    function: Function | None = None


class ChatMessage(msgspec.Struct):
    """The message of an answer, or the delta of a chunk."""

    content: msgspec.Raw = ABSENT
    reasoning_content: msgspec.Raw = ABSENT
    reasoning: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    tool_calls: list[ToolCall] | None = None
    thinking_blocks: list[Fields] | None = None
    reasoning_details: msgspec.Raw = ABSENT
    annotations: msgspec.Raw = ABSENT

    def blocks_of_thinking(self) -> list[Fields]:
        """Return the blocks of thinking. A block that lacks a text or a signature gets an empty text or signature."""
        return [whole for block in self.thinking_blocks or () if (whole := _whole(block)) is not None]

    def details(self) -> list[Any]:
        """Return the reasoning that only its provider can read."""
        details = decode_any(self.reasoning_details) if is_given(self.reasoning_details) else None
        return details if type(details) is list else []

    def thinking(self) -> msgspec.Raw:
        """Return the text of the thinking as JSON, or ABSENT if there is no text."""
        for raw in (self.reasoning_content, self.reasoning):
            if is_text(raw) and bytes(raw) != EMPTY:
                return raw
        return ABSENT


def _whole(block: Fields) -> Fields | None:
    """Return a block of thinking with all of its fields, or None if the block is of another type."""
    kind = bytes(block.get("type", ABSENT))
    if kind == b'"redacted_thinking"':
        return block if is_text(block.get("data", ABSENT)) else None
    if kind != b'"thinking"':
        return None
    lacking = [name for name in ("thinking", "signature") if not is_text(block.get(name, ABSENT))]
    return {**block, **dict.fromkeys(lacking, msgspec.Raw(EMPTY))} if lacking else block


class Choice(msgspec.Struct):
    """A choice of an answer or a chunk."""

    index: int = 0
    message: ChatMessage | None = None
    delta: ChatMessage | None = None
    finish_reason: str | None = None
    stop_sequence: Any = None
    stop_reason: Any = None


class Completion(msgspec.Struct):
    """An answer or a chunk."""

    id: Any = None
    model: Any = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = ABSENT
    service_tier: Any = None
    error: msgspec.Raw = ABSENT
    gateway: msgspec.Raw = ABSENT


_decode_completion = msgspec.json.Decoder(Completion).decode


def read_completion(data: bytes) -> Completion:
    """Read an answer or a chunk. Raise UpstreamFailed if it does not have the documented types."""
    try:
        return _decode_completion(data)
    except msgspec.DecodeError as error:
        message = f"The upstream's answer cannot be translated: {error}."
        raise UpstreamFailed(message, status=502, code="upstream_bad_response") from None


def text_of(raw: msgspec.Raw) -> msgspec.Raw:
    """Return the text of `content` as JSON, or ABSENT if there is no text. The texts of a list of parts are joined."""
    if is_text(raw):
        return raw if bytes(raw) != EMPTY else ABSENT
    if bytes(raw)[:1] != b"[":
        return ABSENT
    texts = [part.get("text") for part in decode_any(raw) if type(part) is dict]
    joined = "".join(text for text in texts if type(text) is str)
    return msgspec.Raw(encode(joined)) if joined else ABSENT


def usage_of(raw: msgspec.Raw, tier: Any) -> dict[str, Any] | None:
    """Return the usage of a message, or None if the numbers of input and output tokens are not reported.

    The cached tokens are not part of `input_tokens`.
    """
    usage = read_usage(decode_any(raw)) if is_given(raw) else None
    if usage is None or usage.unsplit_tokens:
        return None
    counts: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
    if hour := usage.cache_write_1h_tokens:
        counts["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - hour,
            "ephemeral_1h_input_tokens": hour,
        }
    if usage.reasoning_tokens:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    if type(tier) is str and tier in _TIERS:
        counts["service_tier"] = _TIERS[tier]
    return counts


class Stop(msgspec.Struct):
    """The reason why an answer ended."""

    reason: str
    sequence: str | None = None


def stop_of(choice: Choice, stops: tuple[str, ...], *, has_tools: bool, refused: bool) -> Stop:
    """Return the reason why a choice ended. Only some upstreams state which of the requested `stops` they found."""
    said = choice.finish_reason
    if said == "stop" and not has_tools:
        for sequence in (choice.stop_sequence, choice.stop_reason):
            if type(sequence) is str and sequence in stops:
                return Stop("stop_sequence", sequence)
    reason = _FINISH_REASONS.get(str(said), "end_turn")
    if reason == "end_turn" and (has_tools or refused):
        reason = "tool_use" if has_tools else "refusal"
    return Stop(reason)
