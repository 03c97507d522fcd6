"""`ChunkRepairs`: a stream decoder that repairs single chunks of vendors with OpenAI's wire format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from providers.answers import Repair, choices_of, repair_finish_reasons
from providers.base import Failure, StreamDecoder, StreamFailure
from providers.failures import read_failure

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class ChunkRepairs(StreamDecoder):
    """Applies repairs to the chunks whose bytes contain one of `words`. All others pass unchanged."""

    def __init__(self, repairs: tuple[Repair, ...], words: tuple[bytes, ...]) -> None:
        self._repairs = repairs
        self._words = words

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """Return the chunk, repaired if necessary. Raises StreamFailure for an error with a status of its own."""
        if not any(word in data for word in self._words):
            return (data,)
        chunk = _decode(data)
        if type(chunk.get("status_code")) is int and chunk.get("error"):
            raise StreamFailure(read_failure(chunk["status_code"], {}, data))
        if any(choice.get("finish_reason") == "error" for choice in choices_of(chunk)):
            raise StreamFailure(Failure("inband_error", "the upstream ended the answer with an error"))
        changed = repair_finish_reasons(chunk)
        for repair in self._repairs:
            changed = repair(chunk) or changed
        return (_encode(chunk),) if changed else (data,)
