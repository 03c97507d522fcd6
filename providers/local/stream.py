"""Decodes the engine's stream: removes progress and timings, adds up usage, and restores forced tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from providers.base import TIMES, Options, StreamDecoder
from providers.local.options import ENGINE_MODEL
from providers.local.rules import CHOICES_MEMO, MODEL_MEMO, PROMPTS_MEMO, TOP_LOGPROBS_MEMO
from providers.local.tools import FORCED_TOOL_MEMO, CallReader

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode
_ENGINE_MODEL = b'"model":' + _encode(ENGINE_MODEL)


class EngineDecoder(StreamDecoder):
    """Decodes one stream. Chunks that need no change keep their bytes."""

    def __init__(self, options: Options) -> None:
        memo = options.memo
        self._model = _model_member(options)
        self._forced: bool = memo.get(FORCED_TOOL_MEMO, False)
        self._top: int | None = memo.get(TOP_LOGPROBS_MEMO)
        self._choices: int = memo.get(CHOICES_MEMO, 1)
        self._prompts: int = memo.get(PROMPTS_MEMO, 1)
        self._usages_left = self._choices * self._prompts
        self._read = [0, 0]
        """The prompt tokens of all usages so far, and those of them that were cached."""
        self._memo = memo
        self._is_text = options.operation == "completions"
        self._usage: dict[str, Any] | None = None
        self._calls: dict[int, CallReader] = {}

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        data = data.replace(_ENGINE_MODEL, self._model, 1)
        if self._is_text:
            data = data.replace(b'"id":"chatcmpl-', b'"id":"cmpl-', 1)
        if b'"prompt_progress"' in data and "prompt_progress" in _decode(data):
            return ()
        if b'"usage"' not in data and b'"timings"' not in data and not self._forced and self._top is None:
            return (data,)
        chunk = _decode(data)
        if "choices" not in chunk:
            return (data,)
        self._note_times(chunk.pop("timings", None))
        if chunk.get("usage") is not None and not self._add_usage(chunk):
            return ()
        for choice in chunk["choices"]:
            if self._top == 0:
                _strip_alternatives(choice)
            if self._forced:
                self._read_call(choice, chunk.get("id") or "")
        return (_encode(chunk),)

    def _note_times(self, timings: Any) -> None:
        """Record the engine's durations, converted from milliseconds to seconds. They do not include the wait for a slot."""
        if type(timings) is dict and {"prompt_ms", "predicted_ms"} <= timings.keys():
            prompt, completion = timings["prompt_ms"] / 1000, timings["predicted_ms"] / 1000
            self._memo[TIMES] = {"prompt_time": prompt, "completion_time": completion, "total_time": prompt + completion}

    def _add_usage(self, chunk: dict[str, Any]) -> bool:
        """Add up usage, which the engine reports for each choice, its prompt included. Return whether to send the chunk."""
        usage = chunk["usage"]
        self._read[0] += usage["prompt_tokens"]
        self._read[1] += (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        if self._usage is None:
            self._usage = usage
        else:
            self._usage["completion_tokens"] += usage["completion_tokens"]
            self._usage["total_tokens"] += usage["completion_tokens"]
        self._usages_left -= 1
        if self._prompts > 1:
            self._sum_prompts(self._usage)
        chunk["usage"] = self._usage
        return self._usages_left <= 0 or bool(chunk["choices"])

    def _sum_prompts(self, usage: dict[str, Any]) -> None:
        """Set the tokens of all prompts. Each choice repeats those of its prompt, so the sum counts a prompt once for each choice."""
        read, cached = (tokens // self._choices for tokens in self._read)
        usage |= {"prompt_tokens": read, "total_tokens": read + usage["completion_tokens"]}
        if "prompt_tokens_details" in usage:
            usage["prompt_tokens_details"] = {**usage["prompt_tokens_details"], "cached_tokens": cached}

    def _read_call(self, choice: dict[str, Any], chunk_id: str) -> None:
        """Turn a choice's text into the delta of a tool call."""
        index = choice.get("index") or 0
        reader = self._calls.setdefault(index, CallReader())
        delta = choice.get("delta") or {}
        text = delta.pop("content", None)
        if text:
            name_sent = reader.name is not None
            arguments = reader.feed(text)
            if reader.name is not None:
                call: dict[str, Any] = {"index": 0, "function": {"arguments": arguments}}
                if not name_sent:
                    call = {"index": 0, "id": f"call_{chunk_id[-24:]}{index}", "type": "function"}
                    call["function"] = {"name": reader.name, "arguments": arguments}
                if arguments or not name_sent:
                    delta["tool_calls"] = [call]
        elif "role" in delta:
            delta["content"] = None
        if choice.get("finish_reason") == "stop" and reader.name is not None:
            choice["finish_reason"] = "tool_calls"


def with_model(answer: bytes, options: Options, sent: str) -> bytes:
    """Return an answer with the model that the caller asked for.

    The name replaces the engine's model name, or, in an embeddings answer, the model name that was `sent`. The replaced
    bytes cannot occur in a text, because quotation marks in texts are escaped.
    """
    named = b'"model":' + _encode(sent) if options.operation == "embeddings" else _ENGINE_MODEL
    return answer.replace(named, _model_member(options), 1)


def _model_member(options: Options) -> bytes:
    return b'"model":' + _encode(options.memo.get(MODEL_MEMO) or ENGINE_MODEL)


def _strip_alternatives(choice: dict[str, Any]) -> None:
    logprobs = choice.get("logprobs")
    for token in (logprobs.get("content") if type(logprobs) is dict else None) or ():
        token["top_logprobs"] = []
