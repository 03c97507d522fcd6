"""Passes the events of a stream through the hooks of a call.

A hook may hold back the end of a piece. When a channel ends, the text that is still held is sent in an event of its own,
before the event that ends the channel. Events before the first text are held, so that a refusal of the first text can
still be an HTTP error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from gateway.hooks.api import Kind
from gateway.hooks.events import Event, Slot, carrier, ended_groups, slots_of
from gateway.hooks.run import HookRun, Pieces
from gateway.hooks.walk import kind_of, leaves, replaced

MAX_BUFFERED_BYTES = 4 << 20
_NEVER_TEXT = frozenset({
    "id", "item_id", "call_id", "response_id", "object", "created", "model", "type", "role", "finish_reason", "stop_reason", "status",
    "system_fingerprint", "service_tier", "usage", "encrypted_content", "signature", "gateway",
})  # fmt: skip
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class HookedEvents:
    """The state of one stream. `feed` takes bytes as they arrive and returns complete events."""

    def __init__(self, run: HookRun, pieces: Pieces, *, holds_start: bool = True) -> None:
        """If `holds_start` is False, events before the first text are sent at once."""
        self._run = run
        self._pieces = pieces
        self.started = not holds_start
        """Whether events are no longer held: always if `holds_start` is False, else from the first text or event of substance."""
        self._pending = b""
        self._before: list[bytes] = []
        self._last: dict[str, tuple[Event, Slot, str]] = {}
        """The latest event of each open channel, with its name."""
        self._inserted = 0
        self._given: dict[str, str] = {}
        self._sent: dict[str, str] = {}
        self._whole: dict[str, str] = {}
        """The texts of channels that have ended: as they arrived, and as they were sent."""

    async def feed(self, data: bytes) -> bytes:
        """Return the events to send now. Raise GatewayError for a refusal."""
        whole, end, self._pending = (self._pending + data).replace(b"\r\n", b"\n").rpartition(b"\n\n")
        if len(self._pending) > MAX_BUFFERED_BYTES:
            raise ValueError("an event of the stream is too large")
        out = [part for event in whole.split(b"\n\n") if event for part in await self._event(event)] if end else []
        if not self.started:
            self._before += out
            return b""
        before, self._before = self._before, []
        return b"".join([*before, *out])

    async def end(self) -> bytes:
        """Return the remaining bytes at the end of the stream."""
        rest = self._pending.strip(b"\n")
        out = await self.feed(b"\n\n") if rest else b""
        self.started = True
        before, self._before = self._before, []
        return out + b"".join([*before, *await self._flush(None)])

    async def _event(self, raw: bytes) -> list[bytes]:
        name, data = _parsed(raw)
        event = _read(data)
        if event is None:
            self.started = self.started or data == b"[DONE]"
            return [*(await self._flush(None) if data == b"[DONE]" else []), raw + b"\n\n"]
        slots, groups = slots_of(event), ended_groups(event)
        before: list[bytes] = []
        written = {slot.group: slot.channel for slot in slots if slot.text or slot.kind == "arguments"}  # a tool call begins empty
        if groups is None:
            before += await self._flush(None)
        else:
            here = {slot.channel for slot in slots}
            before += await self._flush([*written, *groups], but=here)
        for slot in slots:
            is_last = groups is not None and (slot.group in groups or written.get(slot.group, slot.channel) != slot.channel)
            sent = await self._piece(slot, slot.text, is_last=is_last)
            self._last[slot.channel] = (event, slot, name)
            slot.holder[slot.key] = sent
            self.started = self.started or bool(sent)
            if is_last:
                self._close(slot.channel)
        self.started = self.started or self._is_substance(event, slots)
        await self._others(event, "event", "other", {(id(slot.holder), slot.key) for slot in slots})
        return [*before, self._written(name, event)]

    async def _piece(self, slot: Slot, text: str, *, is_last: bool) -> str:
        sent = await self._run.piece(slot.channel, slot.kind, text, is_last=is_last, pieces=self._pieces)
        self._given[slot.channel] = self._given.get(slot.channel, "") + text
        self._sent[slot.channel] = self._sent.get(slot.channel, "") + sent
        return sent

    async def _flush(self, groups: list[str] | None, but: Collection[str] = ()) -> list[bytes]:
        """End the open channels of these groups (all if None), except those in `but`. Return the events with their last text."""
        out: list[bytes] = []
        for channel, (event, slot, name) in list(self._last.items()):
            if channel in but or (groups is not None and slot.group not in groups):
                continue
            text = await self._piece(slot, "", is_last=True)
            self._close(channel)
            if text:
                self.started = True
                out.append(self._written(name, carrier(event, slot, text)))
                self._inserted += 1
        return out

    def _close(self, channel: str) -> None:
        self._last.pop(channel, None)
        self._whole[self._given.pop(channel, "")] = self._sent.pop(channel, "")

    def _is_substance(self, event: Event, slots: list[Slot]) -> bool:
        """Return whether an event without text may be sent: it is neither a preamble nor an event whose text is held."""
        if slots:
            return False
        choices = event.get("choices")
        if type(choices) is list:
            return any(type(one) is dict and (one.get("finish_reason") or (one.get("delta") or {}).get("tool_calls")) for one in choices)
        kind = event.get("type")
        return type(kind) is not str or ended_groups(event) is None or kind == "error"

    async def _others(self, value: Any, path: str, kind: Kind, pieces: set[tuple[int, str]]) -> None:
        """Pass the other strings of an event through the hooks, such as the whole text at the end of a channel."""
        entries: Iterable[tuple[Any, Any]] = value.items() if type(value) is dict else enumerate(value)
        for name, each in list(entries):
            if name in _NEVER_TEXT or (id(value), name) in pieces:
                continue
            below = f"{path}[{name}]" if type(value) is list else f"{path}.{name}"
            of = kind_of(name, each, kind) if type(value) is dict else kind
            if name == "logprobs" and each:
                value[name] = [] if type(each) is list else None
            elif type(each) is str and each:
                value[name] = await self._whole_text(each, below, of)
            elif type(each) is dict or type(each) is list:
                await self._others(each, below, of, pieces)

    async def _whole_text(self, text: str, path: str, kind: Kind) -> str:
        if (whole := self._whole.get(text)) is not None:
            return whole
        final: dict[str, str] = {}
        for leaf in leaves(text, path, kind):
            final[leaf.text] = await self._run.piece(leaf.path, leaf.kind, leaf.text, is_last=True, pieces=self._pieces)
        changed: str = replaced(text, lambda found: final.get(found, found), kind)
        return changed

    def _written(self, name: str, event: Event) -> bytes:
        if self._inserted and type(event.get("sequence_number")) is int:
            event = {**event, "sequence_number": event["sequence_number"] + self._inserted}
        head = b"event: %b\n" % name.encode() if name else b""
        return head + b"data: " + _encode(event) + b"\n\n"


def _read(data: bytes) -> Event | None:
    """Return the object of an event, or None if the event has none."""
    if data[:1] != b"{":
        return None
    try:
        event: Any = _decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    return event if type(event) is dict else None


def _parsed(event: bytes) -> tuple[str, bytes]:
    """Return the name and the data of an event."""
    name, data = "", []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ").decode(errors="replace")
    return name, b"\n".join(data)
