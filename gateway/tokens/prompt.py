"""The tokens of the prompt of one call, as each of its targets counts them. Limits, routing and bills use the same count."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from gateway.tokens.counter import MAX_INLINE_BYTES, SHARED_COUNTER, TokenCounter
from gateway.tokens.encodings import MIN_BYTES_PER_TOKEN
from gateway.tokens.inputs import count_inputs, count_ranked, inputs_by_size, ranked_by_size
from gateway.tokens.messages import is_short, messages_of, read_message
from gateway.tokens.pieces import SlowTextError
from gateway.tokens.tokenizer import Tokenizer, tokenizer_for
from providers.base import Body, Operation, Target
from providers.media.table import media_rules

_INPUT_FIELDS = {"embeddings": "input", "completions": "prompt"}
"""The field that is counted, for operations without messages."""


class PromptCounts:
    """The prompt of one call and its counts. Each count is made once for all targets that count alike."""

    __slots__ = ("_body", "_counter", "_counts", "_estimates", "_is_slow", "_operation", "_size")

    def __init__(self, body: Body, size: int, operation: Operation = "chat", counter: TokenCounter = SHARED_COUNTER) -> None:
        """`size` is the size of the whole request in bytes; `body` may be a part of the request."""
        self._body = body
        self._size = size
        self._operation = operation
        self._counter = counter
        self._counts: dict[tuple[str, str], int] = {}
        self._estimates: dict[tuple[str, str, int], int] = {}
        self._is_slow = False
        """Whether a count on the event loop would need too many steps."""

    async def count(self, targets: Iterable[Target]) -> None:
        """Count the prompt for each target, in a thread if that takes long."""
        for target in targets:
            if not self._is_countable or self.known(target) is not None:
                continue
            tokenizer = tokenizer_for(target.kind.type, target.model)
            with suppress(ValueError, TypeError, LookupError, RecursionError):  # an invalid body is not rejected here
                work = partial(self._count, target, tokenizer)
                self._counts[target.kind.type, target.model] = await self._counter.run(work, MAX_INLINE_BYTES + 1, tokenizer)

    def bound(self, target: Target) -> int:
        """Return the count for a target.

        If the prompt has not been counted yet, count it now if that is quick, else return an upper bound.
        """
        return self._known(target, MIN_BYTES_PER_TOKEN)

    def typical(self, target: Target, bytes_per_token: int) -> int:
        """Return the count for a target.

        If the prompt has not been counted yet, count it now if that is quick, else estimate the count by the size of the
        texts, or of the whole body if it is short.
        """
        return self._known(target, bytes_per_token)

    def known(self, target: Target) -> int | None:
        """Return the count for a target if the prompt has been counted for it or can be counted quickly, else None."""
        count = self._counts.get((target.kind.type, target.model))
        return count if count is not None else self._count_quickly(target)

    def is_counted(self, target: Target) -> bool:
        """Return whether the prompt has been counted for a target, so the body is no longer needed for this target."""
        return (target.kind.type, target.model) in self._counts

    @property
    def _is_countable(self) -> bool:
        return self._operation in _INPUT_FIELDS or self._operation == "rerank" or "messages" in self._body

    def takes_long(self, target: Target) -> bool:
        """Return whether the prompt has not yet been counted for a target and the count takes time."""
        if not self._is_countable or self.known(target) is not None:
            return False
        if self._is_slow:
            return True
        with suppress(ValueError, TypeError, LookupError, RecursionError):
            return not (self._size <= MAX_INLINE_BYTES or (self._operation == "chat" and is_short(self._body, MAX_INLINE_BYTES)))
        return False

    def _known(self, target: Target, bytes_per_token: int) -> int:
        count = self.known(target)
        if count is not None:
            return count
        key = target.kind.type, target.model, bytes_per_token
        if key not in self._estimates:  # the progress of a stream is written every second
            self._estimates[key] = self._size // bytes_per_token
            with suppress(ValueError, TypeError, LookupError, RecursionError):
                self._estimates[key] = self._by_size(target, bytes_per_token)
        return self._estimates[key]

    def _count_quickly(self, target: Target) -> int | None:
        """Count the prompt now if that takes little time, else return None."""
        tokenizer = tokenizer_for(target.kind.type, target.model)
        if self._is_slow or not self._counter.is_loaded(tokenizer) or not self._is_countable:
            return None
        try:
            if self._size > MAX_INLINE_BYTES and not (self._operation == "chat" and self._counter.is_quick(self._body, tokenizer)):
                return None
            count = self._counts[target.kind.type, target.model] = self._count(target, tokenizer, MAX_INLINE_BYTES)
        except SlowTextError:
            self._is_slow = True
            return None
        except (ValueError, TypeError, LookupError, RecursionError):  # an invalid body is not rejected here
            return None
        return count

    def _count(self, target: Target, tokenizer: Tokenizer, most: int | None = None) -> int:
        if self._operation == "rerank":
            return count_ranked(self._body, target, self._counter)
        if (field := _INPUT_FIELDS.get(self._operation)) is not None:
            return count_inputs(self._body, target, field, self._counter)
        plain = self._counter.plain_total(self._body, tokenizer, most)
        if plain is not None:
            return plain
        return self._counter.count_now(self._body, tokenizer, media_rules(target.kind.type, target.model), most).total()

    def _by_size(self, target: Target, bytes_per_token: int) -> int:
        """Estimate the tokens of texts by their size, and count those of images, audio and files. For a short chat, use the whole size."""
        if self._operation == "rerank":
            return ranked_by_size(self._body, self._size, bytes_per_token)
        if (field := _INPUT_FIELDS.get(self._operation)) is not None:
            return inputs_by_size(self._body, self._size, bytes_per_token, field)
        if self._size <= MAX_INLINE_BYTES:
            return self._size // bytes_per_token
        rules = media_rules(target.kind.type, target.model)
        contents = len(self._body.raw("messages") or b"")
        rest = max(0, self._size - contents)
        texts = tokens = 0
        for message in messages_of(self._body):
            parts = read_message(message, rules)
            tokens += parts.fixed + parts.media
            texts += sum(len(text.encode(errors="replace")) for text in parts.texts)
        return tokens + (texts + rest) // bytes_per_token
