"""The maximum number of output tokens of a call, and estimates of the tokens of an answer whose usage was not reported."""

from __future__ import annotations

import re

import msgspec

from gateway import catalog
from gateway.tokens.inputs import WITHOUT_OUTPUT, generated_count
from providers.base import Body, Operation, Target

TYPICAL_BYTES_PER_TOKEN = 4
"""Only for estimates after a call and for the order of queues, never for reservations: it undercounts JSON by about 40 % (measured)."""
MAX_SCANNED_BYTES = 4 << 20
"""Maximum number of bytes of a broken answer that `estimate_part` searches for text."""

# The text fields of an answer in the formats of all providers. The last string may lack its closing quote.
_TEXTS = re.compile(
    rb'"(?:content|text|arguments|refusal|reasoning(?:_content)?|thinking|transcript)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)', re.DOTALL
)


class _Choice(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw(b"")
    text: msgspec.Raw = msgspec.Raw(b"")


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_decode_answer = msgspec.json.Decoder(_Answer).decode


def output_cap(body: Body, target: Target, default: int, operation: Operation = "chat") -> int:
    """Return the maximum number of output tokens of all generated choices. Embeddings and rerank have no output tokens."""
    return 0 if operation in WITHOUT_OUTPUT else choice_cap(body, target, default) * generated_count(body, operation)


def choice_cap(body: Body, target: Target, default: int) -> int:
    """Return the maximum number of output tokens of one choice: the request's cap (else `default`), but at most the model's cap."""
    entry = catalog.entry_of(target)
    model_cap = entry.output if entry is not None and entry.output else None
    cap = requested_cap(body)
    if cap is None:
        cap = default
    if model_cap and model_cap < cap:
        cap = model_cap
    return cap


def requested_cap(body: Body) -> int | None:
    """Return the output cap that a request sets (the larger one if it sets two), or None."""
    new, old = body.get("max_completion_tokens"), body.get("max_tokens")
    if type(new) is int and type(old) is int:
        return max(new, old)
    return new if type(new) is int else old if type(old) is int else None


def estimate_output(answer: bytes) -> int:
    """Estimate the tokens in the texts of a complete JSON answer. Return 0 if the answer is not valid.

    The data of images and audio is left out.
    """
    try:
        decoded = _decode_answer(answer)
    except msgspec.DecodeError:
        return 0
    return sum(_tokens_in(choice.message) or -(-max(0, len(choice.text) - 2) // TYPICAL_BYTES_PER_TOKEN) for choice in decoded.choices)


def estimate_part(part: bytes) -> int:
    """Estimate the output tokens in the beginning of a JSON answer. Return 0 if no text has begun."""
    return _tokens_in(part[:MAX_SCANNED_BYTES])


def _tokens_in(data: bytes | msgspec.Raw) -> int:
    size = sum(len(text) for text in _TEXTS.findall(data))
    return -(-size // TYPICAL_BYTES_PER_TOKEN)
