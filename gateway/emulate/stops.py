"""Stop strings with the same meaning on every provider: the text ends before the stop string, or after it if the
caller requests that, in answers and in streams.

Providers differ: Fireworks documents that the stop string stays in the text, while OpenAI removes it. Therefore the
text of a call with stop strings is searched here. A stream holds back only text that could still become a stop
string.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.streams.chunk_filter import ChunkFilter
from providers.base import StreamDecoder

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class StopFilter:
    """Finds stop strings in the text of one choice.

    The stop string that is complete first applies; of two stop strings that end together, the longer one applies.
    """

    __slots__ = ("_held", "_keep", "_stops", "matched_stop")

    def __init__(self, stops: Sequence[str], *, keep: bool = False) -> None:
        """If `keep` is True, the stop string stays in the text."""
        self._stops = [stop for stop in stops if stop]
        self._keep = keep
        self._held = ""
        self.matched_stop: str | None = None

    def feed(self, text: str) -> str:
        """Return the text to show now, or "" after a stop string."""
        if self.matched_stop is not None:
            return ""
        text = self._held + text
        ends = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            end, at, self.matched_stop = min(ends)
            self._held = ""
            return text[: end if self._keep else at]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """At the end of the stream, return the text that was held back."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of `text` that is a prefix of `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class StopStream(ChunkFilter):
    """A stream decoder that ends each choice at its stop string.

    `inner`, if any, converts events to OpenAI chunks first.
    """

    def __init__(
        self, inner: StreamDecoder | None, stops: Sequence[str], choices: int, *, keep: bool, names_stop: bool = False
    ) -> None:
        """`names_stop` adds to each choice, as `stop_sequence`, the stop string that ended it."""
        super().__init__(inner)
        self._names_stop = names_stop
        self._stops = stops
        self._choices = choices
        self._keep = keep
        self._filters: dict[int, StopFilter] = {}
        self._over = False
        self.reported_stop: str | None = None
        """The first stop string that the provider itself reported."""

    @property
    def matched_stop(self) -> str | None:
        """The stop string of the first choice that has one."""
        return next((one.matched_stop for one in self._filters.values() if one.matched_stop is not None), None)

    def _pass(self, data: bytes) -> Sequence[bytes]:
        if self._over:
            return ()
        if data == b"[DONE]":
            return (data,)
        chunk = _decode(data)
        choices = chunk.get("choices")
        if not choices or chunk.get("error"):
            return (data,)
        kept = [choice for choice in choices if self._look(choice)]
        out = [_encode({**chunk, "choices": kept})] if kept or chunk.get("usage") else []
        if sum(one.matched_stop is not None for one in self._filters.values()) >= self._choices:
            self._over = True
            out.append(b"[DONE]")
        return out

    def _look(self, choice: dict[str, Any]) -> bool:
        """Rewrite the text of one choice in place. Return whether anything is left to send."""
        filter = self._filters.setdefault(choice.get("index", 0), StopFilter(self._stops, keep=self._keep))
        if filter.matched_stop is not None:
            return False
        is_plain = "text" in choice and "delta" not in choice  # a text completion
        delta, name = (choice, "text") if is_plain else (choice.get("delta") or {}, "content")
        content = delta.get(name)
        finished = choice.get("finish_reason") is not None
        if isinstance(content, str):
            delta[name] = filter.feed(content)
        if filter.matched_stop is not None:
            choice["finish_reason"] = "stop"
            if self._names_stop:
                choice["stop_sequence"] = filter.matched_stop
            return True
        if finished:
            self.reported_stop = self.reported_stop or reported_stop(choice, self._stops)
            held = filter.flush()
            if held and is_plain:
                choice["text"] = (choice.get("text") or "") + held
            elif held:
                choice["delta"] = {**delta, "content": (delta.get("content") or "") + held}
            return True
        return not (content and delta[name] == "" and (is_plain or len(delta) == 1) and not choice.get("logprobs"))


def reported_stop(choice: dict[str, Any], stops: Sequence[str]) -> str | None:
    """Return the stop string that the provider reports: vLLM calls it `stop_reason`, Anthropic `stop_sequence`."""
    return next((said for name in ("stop_reason", "stop_sequence") if (said := choice.get(name)) in stops), None)


def cut_answer(
    answer: bytes, stops: Sequence[str], *, keep: bool, names_stop: bool = False
) -> tuple[bytes, str | None]:
    """End the texts of a JSON answer at their stop strings. Return the answer and the first stop string found or reported, or None.

    `names_stop` adds to each choice, as `stop_sequence`, the stop string that ended it.
    """
    decoded = _decode(answer)
    found: str | None = None
    changed = False
    for choice in decoded.get("choices") or ():
        is_plain = "text" in choice and "message" not in choice  # a text completion
        message, name = (choice, "text") if is_plain else (choice.get("message") or {}, "content")
        content = message.get(name)
        if not isinstance(content, str):
            continue
        filter = StopFilter(stops, keep=keep)
        text = filter.feed(content)
        if filter.matched_stop is None:
            found = found or reported_stop(choice, stops)
            continue
        found = found or filter.matched_stop
        if names_stop:
            choice["stop_sequence"] = filter.matched_stop
        if names_stop or text != content or choice.get("finish_reason") != "stop":
            _cut(choice, message, name, text)
            changed = True
    return (_encode(decoded) if changed else answer), found


def _cut(choice: dict[str, Any], message: dict[str, Any], name: str, text: str) -> None:
    """End a choice at `text`, and remove its tool calls and later log probabilities."""
    message[name] = text
    message.pop("tool_calls", None)
    choice["finish_reason"] = "stop"
    logprobs = choice.get("logprobs") or {}
    if name == "text" and isinstance(tokens := logprobs.get("tokens"), list):
        kept_count, shown = 0, 0
        while kept_count < len(tokens) and shown < len(text):
            shown += len(str(tokens[kept_count]))
            kept_count += 1
        choice["logprobs"] = {key: listed[:kept_count] if isinstance(listed, list) else listed for key, listed in logprobs.items()}
    listed = logprobs.get("content")
    if isinstance(listed, list):
        shown, kept = 0, []
        for token in listed:
            if shown >= len(text):
                break
            kept.append(token)
            shown += len(token.get("token", "")) if isinstance(token, dict) else 0
        choice["logprobs"]["content"] = kept
