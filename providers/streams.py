"""What the streams of OpenAI-speaking vendors need: chunks repaired one by one, and decoders with a memory for the odd ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from providers.answers import Repair, choices_of, repair_finish, said_in
from providers.base import Failure, StreamDecoder, StreamFailure
from providers.failures import read_failure

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class ChunkRepairs(StreamDecoder):
    """Applies repairs to the chunks that have one of `words` in their bytes; all others pass untouched."""

    def __init__(self, repairs: tuple[Repair, ...], words: tuple[bytes, ...]) -> None:
        self._repairs = repairs
        self._words = words

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """The chunk, repaired where it must be. StreamFailure for an error with a status of its own."""
        if not any(word in data for word in self._words):
            return (data,)
        chunk = _decode(data)
        if type(chunk.get("status_code")) is int and chunk.get("error"):
            raise StreamFailure(read_failure(chunk["status_code"], {}, data))
        if any(choice.get("finish_reason") == "error" for choice in choices_of(chunk)):
            raise StreamFailure(Failure("inband_error", "the upstream ended the answer with an error"))
        changed = repair_finish(chunk)
        for repair in self._repairs:
            changed = repair(chunk) or changed
        return (_encode(chunk),) if changed else (data,)


def with_choices(chunk: dict[str, Any]) -> bool:
    """Chunks that only tell usage or timings get their empty `choices`, and choices their empty `delta`."""
    if chunk.get("choices") is None and "error" not in chunk:
        chunk["choices"] = []
        return True
    changed = False
    for choice in choices_of(chunk):
        if choice.get("delta") is None and "message" not in choice:
            choice["delta"] = {}
            changed = True
    return changed


class FreshTokens(StreamDecoder):
    """Goodfire's streams: a token may come twice (`gf_token_index`), each says its role, `created` may be null, nothing ends them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._newest: dict[int, int] = {}
        self._finished: set[int] = set()
        self._frame: dict[str, Any] = {}

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """The chunk without what was seen; nothing when all of it was."""
        chunk = _decode(data)
        if chunk.get("error"):
            return (data,)
        choices = [choice for choice in choices_of(chunk) if self._fresh(choice)]
        if not choices:
            return ()
        if chunk.get("created") is None:
            chunk["created"] = self._frame.get("created") or int(self._clock())
        repair_finish(chunk)
        self._frame = {key: value for key, value in chunk.items() if key != "choices"}
        return (_encode({**chunk, "choices": choices}),)

    def _fresh(self, choice: dict[str, Any]) -> bool:
        index, token = choice.get("index", 0), choice.pop("gf_token_index", None)
        if type(token) is int:
            if token <= self._newest.get(index, -1):
                return False
            if index in self._newest:
                said_in(choice).pop("role", None)
            self._newest[index] = token
        if choice.get("finish_reason") is not None:
            self._finished.add(index)
        return True

    def end(self) -> Sequence[bytes]:
        """Goodfire need not say why it stopped: [DONE] after text is the natural end."""
        open_choices = [index for index in self._newest if index not in self._finished]
        ended = [{"index": index, "delta": {}, "finish_reason": "stop"} for index in open_choices]
        return (_encode({**self._frame, "choices": ended}),) if ended else ()
