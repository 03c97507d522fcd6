"""Finds the API to which a request body belongs, according to its fields: a hint for `lockgate explain --path`."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from gateway.dialects.dialect import Dialect
from gateway.dialects.table import DIALECTS

CHAT_PATH = "/v1/chat/completions"
APIS: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = (
    ("/v1/messages", frozenset({"messages"}), frozenset({
        "anthropic_version", "container", "context_management", "mcp_servers", "output_config", "stop_sequences", "system",
    })),
    ("/v2/chat", frozenset({"messages"}), frozenset({"citation_options", "p", "safety_mode", "strict_tools"})),
    ("/v1/rerank", frozenset({"query", "documents"}), frozenset()),
    ("/v1/embeddings", frozenset({"input"}), frozenset({"dimensions", "encoding_format"})),
    ("/v2/embed", frozenset({"input_type"}), frozenset({"embedding_types", "images", "inputs", "texts"})),
    ("/v1/responses", frozenset(), frozenset({
        "input", "instructions", "max_output_tokens", "max_tool_calls", "previous_response_id", "text",
    })),
    ("/v1/completions", frozenset({"prompt"}), frozenset()),
)  # fmt: skip
"""Each API with the fields that all its requests have, and optional fields that chat completions lack.

The first API that fits applies; an API without `messages` does not fit a body with `messages`. Sources: the tables of fields in
gateway/dialects, as of 2026-11-29.
"""


def api_of(body: Mapping[str, Any]) -> str | None:
    """Return the path of the API whose fields a body has, or None if it could be a chat completion."""
    names = body.keys()
    for path, required, distinctive in APIS:
        fits = required <= names and (not distinctive or not distinctive.isdisjoint(names))
        if fits and ("messages" in names) is ("messages" in required):
            return path
    return "/v1/messages" if "messages" in names and _has_tools_of_messages(body) else None


def hint(body: Any, path: str) -> str | None:
    """Return the advice to explain a body at another path, or None if no other path fits.

    Advice is given only at the default path, chat completions.
    """
    if path != CHAT_PATH or type(body) is not dict:
        return None
    found = api_of(body)
    if found is None:
        return None
    others = " or /v1/embeddings" if found == "/v1/responses" and _could_be_embedded(body) else ""
    return f"The fields are those of {found}{others}. To explain the body as a request of this API, add --path {found}."


def unknown_path(path: str, known: Mapping[str, Dialect]) -> str:
    """Return the error for a path without calls to models, with the nearest path and the paths of the APIs."""
    nearest = get_close_matches(path, known, n=1)
    advice = f" Did you mean {nearest[0]}?" if nearest else ""
    paths = ", ".join(sorted({dialect.paths[0] for dialect in DIALECTS}))
    return f"{path[:80]} is not a path for calls to models.{advice} The paths are {paths}."


def _has_tools_of_messages(body: Mapping[str, Any]) -> bool:
    tools = body.get("tools")
    return type(tools) is list and any(type(tool) is dict and "input_schema" in tool for tool in tools)


def _could_be_embedded(body: Mapping[str, Any]) -> bool:
    return body.keys() <= {"model", "input", "user"}
