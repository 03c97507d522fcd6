"""One row of the table of messages: the fields that a vendor's messages, content parts, tool calls and tools may contain.

The rows are in `providers.message_tables`; the rules in `providers.rules.message_pass` and `providers.rules.tool_pass` apply them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

OTHER_VENDORS_FIELDS = frozenset((
    "annotations", "audio", "cache_control", "citations", "extra_content", "function_call", "is_error", "partial", "prefix", "reasoning",
    "reasoning_content", "reasoning_details", "refusal", "thinking_blocks", "tool_plan",
))  # fmt: skip
"""Message fields that only some vendors define. A row with `unknown="new"` passes other unknown fields, but not these."""

Unknown = Literal["drop", "new", "pass"]
ReasoningField = Literal["", "reasoning_content", "reasoning", "thinking_blocks", "thinking_part"]
Blanks = Literal["accepted", "no_empty_answers", "refused"]


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """The content that one vendor accepts in a conversation."""

    source: str
    """Source of the facts in this row."""
    as_of: str = "2026-11"
    unknown: Unknown = "drop"
    """Treatment of fields that are not in the row: dropped, passed unless another vendor defines them (`new`), or passed."""
    names: tuple[str, ...] = ()
    """Roles whose messages may have a `name`."""
    assistant: tuple[str, ...] = ()
    """Further fields of assistant messages, besides content and tool_calls."""
    reasoning: ReasoningField = ""
    """The place for earlier reasoning in a request. "" means that the vendor accepts none."""
    pads_reasoning: bool = False
    """Whether assistant messages with tool calls must have reasoning, unless the request turns thinking off."""
    reasoning_models: tuple[str, ...] = ()
    """Prefixes of the models that accept earlier reasoning. Empty: all models."""
    calls: tuple[str, ...] = ()
    """Further fields of tool calls."""
    parts: tuple[str, ...] = ()
    """Further fields of content parts."""
    message_cache: bool = False
    """Whether a message may have `cache_control`. If not, it moves to the last part, if parts may have it."""
    part_types: tuple[str, ...] = ()
    """Types of the vendor's own content parts, such as `thinking` and `refusal`, which must not be converted."""
    part_kinds: tuple[str, ...] = ()
    """Types of content parts that the vendor accepts; others are refused. Empty: unknown, or checked elsewhere."""
    text_files: bool = False
    """Whether the vendor accepts a text file as a `file` part. If not, its text is sent."""
    flat_attachments: bool = False
    """Whether files and audio are strings in a part (Mistral), not objects."""
    text_roles: tuple[str, ...] = ()
    """Roles whose messages may contain only text; other parts in them are refused."""
    image: tuple[str, ...] = ("detail",)
    """Fields of image_url besides the address."""
    results: tuple[str, ...] = ()
    """Further fields of tool messages, besides content and tool_call_id."""
    result_parts: tuple[str, ...] = ("text",)
    """Types of content parts in tool messages; others are sent in a user message after them. Empty: all."""
    functions: bool = False
    """Whether the vendor accepts the legacy role `function` and the field `function_call`."""
    has_tools: bool = True
    custom_tools: bool = False
    """Whether the vendor accepts custom tools and their calls. If not, they are sent as functions with one string argument."""
    tool: tuple[str, ...] = ()
    """Further fields of tools, besides type and function."""
    function: tuple[str, ...] = ("strict",)
    """Further fields of functions, besides name, description and parameters."""
    unique_tools: bool = False
    """Whether the vendor refuses two tools with the same name."""
    needs_parameters: bool = False
    """Whether a function must have `parameters`, even if it takes none."""
    enforces_strict: bool = False
    """Whether the vendor documents that it enforces `strict: true` on functions. If not, the gateway checks the arguments."""
    joins: tuple[str, ...] = ()
    """Roles whose lists of texts are joined into a string."""
    developer: Literal["", "system", "setting"] = ""
    """Conversion of the role `developer` to `system`: never, always, or unless a setting turns it off."""

    call_id: str | None = None
    """Pattern of tool-call ids. None: any id."""
    unique_ids: bool = False
    """Whether a tool-call id may be used only once in a conversation."""
    blanks: Blanks = "accepted"
    """Text without a visible character: accepted, refused in assistant messages without tool calls, or refused anywhere."""
    null_answers: bool = False
    """Whether the vendor accepts an assistant message without content and calls."""
    needs_turn: bool = False
    """Whether the vendor refuses a conversation that has only system messages."""
    trims_tail: bool = False
    """Whether the vendor refuses a final assistant message that ends in white space."""
    tail_field: str = ""
    """Field that a final assistant message must have: Mistral's `prefix`."""
    answer_after_results: bool = False
    """Whether an assistant message, not a user or system message, must follow tool results, and no system message an answer."""
    needs_results: bool = False
    """Whether every tool call must have a result."""
    blank_stops: bool = True
    """Whether the vendor accepts stop strings without a visible character."""
    function_name: str | None = None
    """Pattern of function names. None: any name."""
    schema_drops: tuple[str, ...] = ()
    """Keywords that do not affect which values are valid, and that the vendor refuses in a function's schema."""
    object_schemas: bool = False
    """Whether the schema of a function must be an object without anyOf, oneOf or allOf at its top level."""

    def fields_of(self, role: str) -> frozenset[str]:
        """Return the fields that a message of this role may have."""
        fields = {"role", "content"}
        if self.message_cache:
            fields.add("cache_control")
        if role in self.names:
            fields.add("name")
        if role == "assistant":
            fields.update(self.assistant, ("tool_calls",))
            if self.functions:
                fields.add("function_call")
        elif role == "tool":
            fields.update(self.results, ("tool_call_id",))
        elif role == "function":
            fields.add("name")
        return frozenset(fields)
