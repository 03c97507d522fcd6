"""Estimates of token counts, for answers whose usage no provider reported."""

from __future__ import annotations

import re

import msgspec

BYTES_PER_TOKEN = 4
"""For figures that are shown, never for limits: it underestimates JSON by about 40 % (measured)."""
MAX_SCANNED_BYTES = 4 << 20
"""How much of a broken answer is searched for text."""

_TEXTS = re.compile(rb'"(?:content|text|arguments|refusal|reasoning(?:_content)?|thinking)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)', re.DOTALL)
"""The keys of text in the wire formats of all providers; the last text may be cut off."""


class _ReadChoice(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw(b"")


class _ReadAnswer(msgspec.Struct):
    choices: list[_ReadChoice] = []


_decode_answer = msgspec.json.Decoder(_ReadAnswer).decode


def estimate_output(answer: bytes) -> int:
    """Estimate the output tokens of a JSON answer from the length of its messages."""
    try:
        decoded = _decode_answer(answer)
    except msgspec.DecodeError:
        return 0
    return sum(len(choice.message) for choice in decoded.choices) // BYTES_PER_TOKEN


def estimate_partial_output(part: bytes) -> int:
    """Estimate the output tokens in the beginning of a JSON answer. Return 0 before its first text."""
    size = sum(len(text) for text in _TEXTS.findall(part[:MAX_SCANNED_BYTES]))
    return -(-size // BYTES_PER_TOKEN)
