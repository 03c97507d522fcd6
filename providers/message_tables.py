"""The table of messages: one row per provider type, as of 2026-11. See `providers.rules.message_row` for the columns.

Facts come from the vendors' packages and pages, and from public reports of what they reject (owner/repo#number).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from providers.rules.message_pass import MessagePass
from providers.rules.message_row import MessageRow
from providers.rules.rule import Rule
from providers.rules.tool_pass import ToolPass, VisibleStops

_ALL = ("system", "developer", "user", "assistant", "tool", "function")
_TEXTS = ("system", "developer", "user", "assistant", "tool")
_OPENAI_NAME = r"[a-zA-Z0-9_-]{1,64}"

_OPENAI = MessageRow(
    source="openai 3.57.0; ids over 40: autogen#6377, camel#2215; schemas: langchainjs#9804, google-calendar-mcp#39; "
    "images in tool messages: OpenHands#7700, openai-openapi#523; in other messages: openai-node#1030; null content: llama_index#17921; "
    "text files: trpc-agent-go#1816, openai-dotnet#450",
    text_roles=("system", "developer", "assistant"),
    names=_ALL,
    assistant=("refusal", "audio"),
    part_types=("refusal",),
    parts=("prompt_cache_breakpoint",),
    functions=True,
    call_id=r".{1,40}",
    needs_results=True,
    function_name=_OPENAI_NAME,
    object_schemas=True,
    custom_tools=True,
    enforces_strict=True,
)
_OTHER = MessageRow(
    source="the rules of a plugin cover its vendor", unknown="pass", text_files=True, null_answers=True, names=_ALL, functions=True
)
_SERVER = MessageRow(
    source="reasoning_content and reasoning differ between servers; developer: llama.cpp#20079, ogx#6069",
    unknown="pass",
    text_files=True,
    null_answers=True,
    names=_ALL,
    functions=True,
    developer="setting",
)

ROWS: Mapping[str, MessageRow] = MappingProxyType({
    "anthropic": MessageRow(
        source="anthropic 2.14.0; blank text: claude-code#23440, mtga#68; ids: litellm#21964, bifrost#5097; unions: huly-mcp#66; "
        "names used twice: claude-code#10687",
        text_roles=("system", "developer", "assistant"),
        text_files=True,
        message_cache=True,
        results=("is_error",),
        reasoning="thinking_blocks",
        parts=("cache_control",),
        image=(),
        tool=("cache_control",),
        call_id=r"[a-zA-Z0-9_-]{1,64}",
        unique_ids=True,
        blanks="refused",
        needs_turn=True,
        trims_tail=True,
        needs_results=True,
        blank_stops=False,
        function_name=r"[a-zA-Z0-9_-]{1,128}",
        object_schemas=True,
        unique_tools=True,
        enforces_strict=True,
        result_parts=(),
    ),
    "azure": msgspec.structs.replace(
        _OPENAI, source=f"{_OPENAI.source}; azure-ai-docs (no files)", part_kinds=("text", "image_url", "input_audio", "refusal")
    ),
    "cerebras": MessageRow(
        source="cerebras-cloud-sdk 1.91.0; kilocode#10375, Empryo#209 (reasoning accepted, reasoning_content refused); "
        "inference-docs.cerebras.ai, versions (2: unique ids, every call answered)",
        text_roles=("assistant",),
        names=_TEXTS,
        reasoning="reasoning",
        calls=("index",),
        unique_ids=True,
        needs_results=True,
        enforces_strict=True,
    ),
    "cohere": MessageRow(
        source="cohere 7.3.1 (AssistantMessageV2, ToolCallV2, ToolContent, ToolV2Function)",
        text_roles=("system", "developer", "assistant"),
        result_parts=("text", "document"),
        needs_parameters=True,
        enforces_strict=True,
        assistant=("tool_plan", "citations"),
        reasoning="thinking_part",
        part_types=("thinking",),
    ),
    "deepseek": MessageRow(
        source="api-docs.deepseek.com; pi#3636, langchain#39370 (reasoning must come back); lists of parts: cline#247, ai#21174; "
        "null content: ProxyAI#830; names: zed#57531, 9router#3333 (unique)",
        function_name=_OPENAI_NAME,
        unique_tools=True,
        text_roles=("system", "developer", "assistant"),
        names=_TEXTS,
        assistant=("prefix",),
        reasoning="reasoning_content",
        pads_reasoning=True,
        part_kinds=("text", "image_url"),
        joins=_TEXTS,
        needs_results=True,
    ),
    "fireworks": MessageRow(
        source="fireworks-ai 1.2.30 (ChatMessage, ChatCompletionTool)",
        result_parts=("text", "image_url", "video_url"),
        reasoning="reasoning_content",
    ),
    "friendli": MessageRow(
        source="friendli 0.16.5 (AssistantMessage, Function, ToolMessage)",
        needs_parameters=True,
        names=_TEXTS,
        assistant=("reasoning",),
        reasoning="reasoning_content",
        function=(),
    ),
    "gemini": MessageRow(
        source="ai.google.dev on thought signatures; pi#6733; empty parts: new-api#1060; system only: langchain-google#1298; "
        "names: gemini-cli#7878, cline#7339",
        function_name=r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}",
        names=("tool",),
        assistant=("extra_content",),
        calls=("extra_content",),
        blanks="refused",
        needs_turn=True,
        needs_results=True,
    ),
    "goodfire": MessageRow(source="goodfire 0.3.5 (role and content only)", has_tools=False),
    "groq": MessageRow(
        source="groq 1.7.0; jan#8136 (reasoning_content refused), ai#8056 (reasoning only with gpt-oss); names: dify#22867",
        function_name=r"[a-zA-Z0-9_-]+",
        text_roles=("system", "developer", "assistant"),
        reasoning="reasoning",
        reasoning_models=("openai/gpt-oss",),
        part_kinds=("text", "image_url", "document"),
        result_parts=("text", "image_url", "document"),
        enforces_strict=True,
        functions=True,
    ),
    "llamacpp": MessageRow(
        source="llama.cpp common/chat (reasoning_content is read); llama.cpp#20079 (developer)",
        result_parts=(),
        unknown="new",
        null_answers=True,
        names=_ALL,
        reasoning="reasoning_content",
        developer="setting",
    ),
    "local": MessageRow(source="xllamacpp 2026.10.11549", unknown="new", null_answers=True, names=_ALL, reasoning="reasoning_content"),
    "mistral": MessageRow(
        source="mistralai 3.7.0; OpenHands#8685 (empty answers), mistral-common#169 (user after tool), 422 extra_forbidden; "
        "litellm#13389 ($id and $schema); mistral-common, protocol/instruct/validator.py (names)",
        function_name=_OPENAI_NAME,
        text_roles=("system", "developer"),
        call_id=r"[a-zA-Z0-9]{9}",
        result_parts=(),
        needs_parameters=True,
        schema_drops=("$id", "$schema"),
        names=("tool",),
        assistant=("prefix",),
        part_types=("thinking",),
        parts=("document_name", "file_id", "reference_ids", "uri", "content", "metadata"),
        flat_attachments=True,
        calls=("index",),
        blanks="no_empty_answers",
        unique_ids=True,
        needs_turn=True,
        tail_field="prefix",
        answer_after_results=True,
        needs_results=True,
    ),
    "ollama": MessageRow(
        source="ollama openai/openai.go (commit fb30760): a list becomes one message per part; content is required without calls",
        names=_ALL,
        reasoning="reasoning",
        image=(),
        joins=_TEXTS,
        developer="system",
    ),
    "openai": _OPENAI,
    "openai-compatible": _SERVER,
    "openrouter": MessageRow(
        source="openrouter.ai/docs (reasoning tokens, prompt caching); openrouter 1.3.84 (ChatToolMessage, ChatToolCall)",
        result_parts=(),
        unknown="new",
        text_files=True,
        null_answers=True,
        names=_ALL,
        assistant=("reasoning_details", "refusal", "annotations"),
        reasoning="reasoning",
        part_types=("refusal",),
        calls=("index",),
        parts=("cache_control",),
        tool=("cache_control",),
    ),
    "siati": MessageRow(source="wiki.siati.ai (unknown fields are refused)", image=(), joins=_TEXTS, function=()),
    "together": MessageRow(
        source="together 3.1.1 (chat_completion_*_message_param)",
        text_roles=("system", "developer", "assistant"),
        names=("tool",),
        assistant=("reasoning",),
        reasoning="reasoning_content",
        part_kinds=("text", "image_url", "video_url", "audio_url", "input_audio"),
        image=(),
        joins=("system", "developer", "assistant", "tool"),
    ),
    "vllm": MessageRow(
        source="vllm#42664, opencode#30477 (reasoning); ogx#6069 (developer)",
        result_parts=(),
        unknown="new",
        null_answers=True,
        names=_ALL,
        reasoning="reasoning",
        developer="setting",
    ),
    "xai": MessageRow(
        source="xai-sdk 1.21.0 (Message.reasoning_content); empty messages: LangBot#1205, AstrBot#6447; "
        "docs.x.ai, structured outputs (tools are always strict)",
        enforces_strict=True,
        reasoning="reasoning_content",
        blanks="refused",
    ),
})  # fmt: skip


def row_of(type: str) -> MessageRow:
    """Return the row of a provider type. Types without a row are those of plugins."""
    return ROWS.get(type, _OTHER)


def conversation_rules(type: str, model: str) -> tuple[Rule, ...]:
    """Return the rules for messages, tools and stop strings. They precede the provider's own rules."""
    row = row_of(type)
    stops = () if row.blank_stops else (VisibleStops(),)
    return (MessagePass(row=row, model=model), ToolPass(row=row), *stops)
