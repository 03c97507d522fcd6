"""Estimates of output tokens: the cap before a call, and the size of an answer whose usage was not reported."""

from __future__ import annotations

import re

import msgspec

from gateway import catalog
from providers.base import Body, Target

# Only for estimates that are shown or billed, never for a limit: it undercounts JSON by about 40 % (measured).
TYPICAL_BYTES_PER_TOKEN = 4
MAX_SCANNED_BYTES = 4 << 20
"""How much of a broken answer `estimate_part` searches for text."""

# The text fields of an answer in the formats of all providers. The last string may lack its closing quote.
_TEXTS = re.compile(rb'"(?:content|text|arguments|refusal|reasoning(?:_content)?|thinking)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)', re.DOTALL)


class _Choice(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw(b"")


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_decode_answer = msgspec.json.Decoder(_Answer).decode


def output_cap(body: Body, target: Target, default: int) -> int:
    """Return the most output tokens a request can produce: its own cap, or `default`, within the model's cap."""
    entry = catalog.find(target.kind.type, target.model, target.provider)
    model_cap = entry.output if entry is not None and entry.output else None
    wanted = [value for name in ("max_completion_tokens", "max_tokens") if name in body and type(value := body.get(name)) is int]
    cap = max(wanted) if wanted else default
    count = body.get("n") if "n" in body else 1
    return (min(cap, model_cap) if model_cap else cap) * (count if type(count) is int and count > 1 else 1)


def estimate_output(answer: bytes) -> int:
    """Estimate the tokens in the messages of a complete JSON answer."""
    try:
        decoded = _decode_answer(answer)
    except msgspec.DecodeError:
        return 0
    return sum(len(choice.message) for choice in decoded.choices) // TYPICAL_BYTES_PER_TOKEN


def estimate_part(part: bytes) -> int:
    """Estimate the output tokens in the beginning of a JSON answer. Return 0 if no text has begun."""
    size = sum(len(text) for text in _TEXTS.findall(part[:MAX_SCANNED_BYTES]))
    return -(-size // TYPICAL_BYTES_PER_TOKEN)
