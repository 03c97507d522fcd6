"""The end of a call: what it used, estimated where the provider did not say."""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.call import Call
from gateway.tokens import INLINE, SHARED, tokenizer_for
from providers.base import Usage

BYTES_PER_TOKEN = 4
"""For an estimate that is shown, never for one that is enforced: it under-counts JSON by about 40 % (measured)."""

SILENCE = 16
"""An answer with no more content events (or tokens, by its length) may have cost no tokens, as a provider that says 0 says."""


class _Choice(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw(b"")


class _Said(msgspec.Struct):
    choices: list[_Choice] = []


_decode_said = msgspec.json.Decoder(_Said).decode


def settle(call: Call) -> None:
    """Make sure that a call which reached an upstream has a usage; an estimate is flagged as one. No prompt has 0 tokens.

    Output is estimated by content events, of which providers send about one per token, or by the length of a JSON answer.
    """
    if call.status != 200 or call.target is None:
        return
    usage = call.usage
    if usage is None:
        call.usage = Usage(_prompt_tokens(call), call.chunks, estimated=True)
    elif call.operation == "chat" and not (usage.prompt_tokens and usage.completion_tokens):
        prompt = usage.prompt_tokens or _prompt_tokens(call)
        output = usage.completion_tokens or (call.chunks if call.chunks > SILENCE else 0)
        if (prompt, output) != (usage.prompt_tokens, usage.completion_tokens):
            call.usage = Usage(prompt, output, usage.cached_tokens, usage.reasoning_tokens, estimated=True)


def _prompt_tokens(call: Call) -> int:
    """What was counted for the context window; else counted now where that is cheap; else by bytes."""
    if call.context is not None:
        return call.context.prompt_tokens
    if call.target is not None and call.body is not None and call.body_bytes <= INLINE:
        tokenizer = tokenizer_for(call.target.kind.type, call.target.model)
        if "messages" in call.body and SHARED.loaded(tokenizer):
            with suppress(ValueError, RecursionError):  # a call is accounted for whatever is in it
                return SHARED.count_now(call.body, tokenizer).total()
    return call.body_bytes // BYTES_PER_TOKEN


def estimate_output(answer: bytes) -> int:
    """About how many tokens the messages of a JSON answer have."""
    try:
        said = _decode_said(answer)
    except msgspec.DecodeError:
        return 0
    return sum(len(choice.message) for choice in said.choices) // BYTES_PER_TOKEN


def internal_error(id: str, error: Exception) -> bytes:
    """One log line that says where the gateway failed; no message, as it might quote a prompt."""
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-4:]]
    return msgspec.json.encode({"level": "error", "id": id, "error": type(error).__name__, "at": frames}) + b"\n"
