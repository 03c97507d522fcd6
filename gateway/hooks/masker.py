"""The masker: replaces personal data and secrets of a request with masks, and the masks in the answer with the original values.

A mask is a word such as `[EMAIL_1]`. Equal values have the same mask, and the numbers follow the order in the request, so a
conversation that grows keeps its masks and the caches of providers stay useful. A mask that the request itself contains
is not used. The masker keeps the original values only in memory, until the call ends.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable
from typing import Any

from gateway.config.hook import MaskConfig
from gateway.hooks.api import MAX_LOOP_CHARS, Change, Chunk, Emit, Hook, Request
from gateway.hooks.background import in_thread
from gateway.hooks.recognizers import Recognizer
from gateway.hooks.views import WINDOW_CHARS, windows

_MASK = re.compile(r"\[[A-Z_]{2,7}_[0-9]{1,6}\]")
MAX_MASK_CHARS = 16


class Masks:
    """The masks of one call, by value, and the values, by mask."""

    def __init__(self) -> None:
        self.by_value: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self.foreign: set[str] = set()
        """Words of the request that look like masks."""
        self.starts: set[str] = set()
        """The proper beginnings of all masks."""
        self._numbers: Counter[str] = Counter()

    def mask_of(self, kind: str, value: str) -> str:
        """Return the mask of a value."""
        mask = self.by_value.get(value)
        while mask is None or mask in self.foreign:
            self._numbers[kind] += 1
            mask = f"[{kind.upper()}_{self._numbers[kind]}]"
        if value not in self.by_value:
            self.by_value[value], self.values[mask] = mask, value
            self.starts |= {mask[:end] for end in range(1, len(mask))}
        return mask


class Masker(Hook):
    """Masks the values that a recognizer finds."""

    sees_all = True

    def __init__(self, config: MaskConfig) -> None:
        self._recognizer = Recognizer(config.kinds)
        self._restores = config.restore

    def request(self, request: Request) -> Change | Awaitable[Change | None] | None:
        """Return the texts with masks."""
        return in_thread(self._mask, request) if request.is_large else self._mask(request)

    def _mask(self, request: Request) -> Change | None:
        masks = _masks(request.state)
        for text in request.texts:
            for window in windows(text.text) if "[" in text.text else ():
                masks.foreign |= {word for word in _MASK.findall(window.text) if word not in masks.values}
        changed: dict[str, str] = {}
        counts: Counter[str] = Counter()
        for text in request.texts:
            found = self._recognizer.find(text.text)
            if found:
                counts.update(each.kind for each in found)
                parts, at = [], 0
                for each in found:
                    parts += [text.text[at : each.start], masks.mask_of(each.kind, each.value)]
                    at = each.end
                changed[text.path] = "".join([*parts, text.text[at:]])
        if not changed:
            return None
        return Change(changed, "masked " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))

    def follows(self, state: dict[str, Any]) -> bool:
        """Return whether the request has masks that are to be restored."""
        return self._restores and bool(_masks(state).values)

    def chunk(self, chunk: Chunk) -> Emit | Awaitable[Emit] | None:
        """Return the text with the original values, and hold back a mask that may be incomplete."""
        masks, text = _masks(chunk.state), chunk.text
        if "[" not in text:
            return None
        hold = "" if chunk.is_last else _unfinished(text, masks.starts)
        ready = text[: len(text) - len(hold)]
        if len(ready) > MAX_LOOP_CHARS:
            return in_thread(_restored, ready, hold, masks)
        return _restored(ready, hold, masks)


def _restored(text: str, hold: str, masks: Masks) -> Emit:
    """Return a text with the original values in place of its masks. The text must not end inside a mask."""
    parts, at = [], 0
    while at < len(text):
        end = min(at + WINDOW_CHARS, len(text))
        cut = text.rfind("[", max(at + 1, end - MAX_MASK_CHARS), end) if end < len(text) else -1
        end = cut if cut > 0 else end  # a mask is not divided
        parts.append(_MASK.sub(lambda match: masks.values.get(match[0], match[0]), text[at:end]))
        at = end
    restored = "".join(parts)
    return Emit(restored, hold, "restored masked values" if restored != text else "")


def _masks(state: dict[str, Any]) -> Masks:
    masks = state.get("masks")
    if masks is None:
        masks = state["masks"] = Masks()
    found: Masks = masks
    return found


def _unfinished(text: str, starts: set[str]) -> str:
    """Return the end of a text that may be the beginning of a mask, or ""."""
    at = text.rfind("[", max(0, len(text) - MAX_MASK_CHARS))
    return text[at:] if at >= 0 and text[at:] in starts else ""
