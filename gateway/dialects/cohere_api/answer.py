"""Translates a chat answer to Cohere's."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from gateway.dialects.cohere_api.request import encode
from providers.base import Usage
from providers.usage import read_usage

FINISH_REASONS = {
    "stop": "COMPLETE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "function_call": "TOOL_CALL",
    "content_filter": "ERROR",
}
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def translate_answer(answer: bytes, stops: tuple[str, ...]) -> bytes:
    """Return Cohere's answer for a chat answer. `stops` are the request's stop strings."""
    completion = _decode(answer)
    choices: list[dict[str, Any]] = completion.get("choices") or [{}]
    choice = choices[0]
    message = choice.get("message") or {}
    translated: dict[str, Any] = {
        "id": completion.get("id") or str(uuid.uuid4()),
        "finish_reason": finish_of(choice, stops),
        "message": _message(message),
    }
    usage = read_usage(completion.get("usage"))
    if usage is not None and not usage.unsplit_tokens:
        translated["usage"] = usage_of(usage)
    if pieces := pieces_in(choice):
        translated["logprobs"] = [logprob_of([piece]) for piece in pieces]
    if "gateway" in completion:
        translated["gateway"] = completion["gateway"]
    return encode(translated)


def finish_of(choice: dict[str, Any], stops: tuple[str, ...]) -> str:
    """Return Cohere's finish reason. STOP_SEQUENCE requires the stop string, which only some upstreams report."""
    if choice.get("finish_reason") == "stop" and any(choice.get(name) in stops for name in ("stop_sequence", "stop_reason")):
        return "STOP_SEQUENCE"
    return FINISH_REASONS.get(str(choice.get("finish_reason")), "COMPLETE")


def text_in(content: Any) -> str:
    """Return the text of `content`. If `content` is a list of parts, the texts of the parts are joined."""
    if type(content) is str:
        return content
    parts = content if type(content) is list else []
    return "".join(part["text"] for part in parts if type(part) is dict and type(part.get("text")) is str)


def thinking_in(message: dict[str, Any]) -> str:
    """Return the text of the reasoning, or ""."""
    return next((message[name] for name in ("reasoning_content", "reasoning") if type(message.get(name)) is str), "")


def _message(source: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    calls = source.get("tool_calls") or ()
    thoughts, text = thinking_in(source), text_in(source.get("content")) + text_in(source.get("refusal"))
    content = [{"type": "thinking", "thinking": thoughts}] if thoughts else []
    if text or not calls:
        content.append({"type": "text", "text": text})
    if content:
        message["content"] = content
    if calls:
        message["tool_calls"] = [{"id": call.get("id"), "type": "function", "function": call.get("function")} for call in calls]
    if source.get("citations"):
        message["citations"] = source["citations"]
    return message


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return Cohere's usage. If the provider reports no billed tokens, all tokens count as billed.

    Cohere has no fields for tokens written to the cache or for reasoning tokens. The gateway adds fields for these
    counts if they are not 0.
    """
    counts = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    billed = counts if usage.billed is None else dict(zip(counts, usage.billed, strict=True))
    whole: dict[str, Any] = {"billed_units": billed, "tokens": counts, "cached_tokens": usage.cached_tokens}
    for name in ("cache_write_tokens", "reasoning_tokens"):
        if count := getattr(usage, name):
            whole[name] = count
    return whole


def pieces_in(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tokens of a choice with their log probabilities, or an empty list if they do not have the usual form."""
    logprobs = choice.get("logprobs")
    pieces = logprobs.get("content") if type(logprobs) is dict else None
    return pieces if type(pieces) is list and all(type(piece) is dict for piece in pieces) else []


def logprob_of(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the log probabilities of the tokens of one text. The ids of tokens are unknown."""
    text = "".join(str(piece.get("token") or "") for piece in pieces)
    return {"text": text, "token_ids": [], "logprobs": [piece.get("logprob") for piece in pieces]}
