"""Describes how a row of the table of messages treats each field, for `explain`, the list of models and docs/providers.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from providers.rules.message_row import MessageRow

Entry = dict[str, Any]
_YES: Entry = {"support": "yes"}
_ROLES = ("system", "user", "assistant", "tool")

MESSAGE_FIELDS = (
    "messages[].name", "messages[].reasoning_content", "messages[].reasoning", "messages[].reasoning_details",
    "messages[].thinking_blocks", "messages[].refusal", "messages[].annotations", "messages[].audio", "messages[].function_call",
    "messages[].prefix", "messages[].extra_content", "messages[].tool_calls[].index", "messages[].tool_calls[].extra_content",
    "messages[].cache_control", "messages[].content[].cache_control", "messages[].content[].image_url.detail",
    "messages[].tool_calls[].custom", "tools[].custom", "tools[].cache_control", "tools[].function.strict",
)  # fmt: skip
"""The fields that vendors treat differently, in the order of docs/providers.md."""


def describe_fields(row: MessageRow, reasoning: str) -> dict[str, Entry]:
    """Return the capabilities of each field of MESSAGE_FIELDS."""
    if row.unknown == "pass":
        return {name: {"support": "passed"} for name in MESSAGE_FIELDS}
    assistant = row.fields_of("assistant") | {reasoning}
    kept = {
        "messages[].name": bool(row.names),
        **{f"messages[].{name}": name in assistant for name in ("reasoning_details", "thinking_blocks", "annotations", "audio", "prefix")},
        "messages[].extra_content": "extra_content" in assistant,
        "messages[].tool_calls[].index": "index" in row.calls,
        "messages[].tool_calls[].extra_content": "extra_content" in row.calls,
        "messages[].content[].cache_control": "cache_control" in row.parts,
        "messages[].content[].image_url.detail": "detail" in row.image,
        "tools[].cache_control": "cache_control" in row.tool,
        "tools[].function.strict": "strict" in row.function,
    }
    result = {name: _YES if is_kept else {"support": "no"} for name, is_kept in kept.items()}
    if row.names and len(row.names) < len(_ROLES):
        result["messages[].name"] = {"support": "yes", "roles": list(row.names)}
    for name in ("reasoning_content", "reasoning"):
        result[f"messages[].{name}"] = _reasoning(row, reasoning, name)
    result["messages[].refusal"] = _YES if "refusal" in assistant else _adjusted("content")
    result["messages[].function_call"] = _function_call(row)
    for name, place in (("messages[].tool_calls[].custom", "tool_calls[].function"), ("tools[].custom", "tools[].function")):
        result[name] = _YES if row.custom_tools else _adjusted(place) if row.has_tools else {"support": "no", "refused": True}
    if row.message_cache:
        result["messages[].cache_control"] = _adjusted("cache_control of the last block")
    else:
        may_move = "cache_control" in row.parts
        result["messages[].cache_control"] = _adjusted("cache_control of the last part") if may_move else {"support": "no"}
    return {name: result[name] for name in MESSAGE_FIELDS}


def _adjusted(to: str) -> Entry:
    return {"support": "adjusted", "action": "reshape", "to": to}


def _reasoning(row: MessageRow, reasoning: str, name: str) -> Entry:
    if name == reasoning or name in row.assistant:
        return _YES
    if reasoning in ("reasoning_content", "reasoning"):
        return {"support": "adjusted", "action": "rename", "to": reasoning}
    return _adjusted("content[].thinking") if reasoning == "thinking_part" else {"support": "no"}


def _function_call(row: MessageRow) -> Entry:
    if row.functions:
        return _YES
    return _adjusted("tool_calls") if row.has_tools else {"support": "no", "refused": True}


def any_of(names: Iterable[str]) -> str:
    """Return names as `a, b or c`."""
    return _joined(names, "or")


def _joined(names: Iterable[str], word: str) -> str:
    return f" {word} ".join(", ".join(names).rsplit(", ", 1))


def conversation_notes(row: MessageRow) -> list[str]:
    """Return the rules for a whole conversation, in words."""
    notes = {
        f"tool-call ids that do not match `{row.call_id}` are replaced": row.call_id is not None,
        "a tool-call id that is used again is replaced": row.unique_ids,
        f"messages with the role {any_of(row.text_roles)} may contain only text": bool(row.text_roles),
        "the text of a text file is sent instead of the file": not row.text_files,
        "files are sent as `document_url`, and audio as a string": row.flat_attachments,
        "several results of one call are joined into one": row.has_tools and row.unknown != "pass",
        f"tool messages have only {_joined(row.result_parts, 'and')}; other parts are sent in a user message after them": row.has_tools
        and row.unknown != "pass"
        and bool(row.result_parts),
        "a tool call without a result is refused": row.needs_results,
        "messages and parts without a visible character are left out, and refused in the last user message": row.blanks == "refused",
        "assistant messages without text and calls are left out": row.blanks == "no_empty_answers",
        "an assistant message without content and calls gets an empty text": not row.null_answers and row.blanks == "accepted",
        "if all messages are system messages, the last one is sent as a user message": row.needs_turn,
        "white space at the end of a final assistant message is removed": row.trims_tail,
        "a system message at the end is sent as a user message": bool(row.tail_field),
        f"a final assistant message is marked with `{row.tail_field}`": bool(row.tail_field),
        "in thinking mode, an assistant message with tool calls has `reasoning_content`": row.pads_reasoning,
        "a system message after an assistant or tool message is sent as a user message": row.answer_after_results,
        "an assistant message is added between tool results and a user message": row.answer_after_results,
        "stop strings without a visible character are not sent; the gateway ends the answer at them": not row.blank_stops,
        f"function names that do not match `{row.function_name}` are refused": row.function_name is not None,
        "a tool that repeats another one is dropped; two different tools with the same name are refused": row.unique_tools,
        "a function without `parameters` gets an empty schema": row.needs_parameters,
        f"a function's schema is sent without {', '.join(f'`{name}`' for name in row.schema_drops)}": bool(row.schema_drops),
        "the gateway checks the arguments of functions with `strict: true`": row.has_tools
        and not row.enforces_strict
        and row.unknown != "pass",
        "a function's schema is an object without anyOf, oneOf or allOf at its top level": row.object_schemas,
        f"lists of texts are joined in messages with the role {any_of(row.joins)}": bool(row.joins),
        "`developer` is sent as `system`": row.developer == "system",
        "`developer` is sent as `system` unless `developer_as_system` is false": row.developer == "setting",
        f"earlier reasoning is sent only to models whose name starts with {', '.join(f'`{name}`' for name in row.reasoning_models)}": bool(
            row.reasoning_models
        ),
    }
    return [note.replace("|", "\\|") for note, applies in notes.items() if applies]
