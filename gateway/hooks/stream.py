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
from gateway.hooks.events import JsonEnd, carrier, ended_groups, slots_of
from gateway.hooks.frames import Framer, LineFramer
from gateway.hooks.run import HookRun, Pieces
from gateway.hooks.slots import Event, Slot, fields
from gateway.hooks.walk import kind_of, leaves, replaced

_NEVER_TEXT = frozenset({
    "id", "item_id", "call_id", "response_id", "object", "created", "model", "type", "role", "finish_reason", "stop_reason", "status",
    "system_fingerprint", "service_tier", "usage", "encrypted_content", "signature", "gateway", "finishReason", "modelVersion",
    "responseId", "createTime", "thoughtSignature", "created_at", "done_reason",
})  # fmt: skip
_encode = msgspec.json.Encoder().encode


class HookedEvents:
    """The state of one stream. `feed` takes bytes as they arrive and returns complete events."""

    def __init__(self, run: HookRun, pieces: Pieces, *, holds_start: bool = True, is_lines: bool = False) -> None:
        """If `holds_start` is False, events before the first text are sent at once. If `is_lines` is True, each event is a line of JSON."""
        self._run = run
        self._pieces = pieces
        self.started = not holds_start
        """Whether the events before the first text are no longer held."""
        self._framer = LineFramer() if is_lines else Framer()
        self._before: list[bytes] = []
        self._last: dict[str, tuple[Event, Slot, bytes]] = {}
        """For each open channel, its latest event, the slot of the channel in the event, and the event's name."""
        self._inserted = self._number = 0
        """The number of inserted events less that of removed events, and the latest `sequence_number`."""
        self._given: dict[str, list[str]] = {}
        self._sent: dict[str, list[str]] = {}
        self._ends: dict[str, JsonEnd] = {}
        """For each channel with the arguments of a tool call, the object that finds their end."""
        self._whole: dict[str, str] = {}
        """The texts of channels that have ended: the text as it was sent, by the text as it arrived."""
        self._has_ended = False
        self._passed: list[bytes] = []
        """Events that passed the hooks before another event of the same piece failed."""

    async def feed(self, data: bytes) -> bytes:
        """Return the events to send now. Raise GatewayError for a refusal."""
        return await self._pass(data, is_end=False)

    async def end(self, data: bytes = b"") -> bytes:
        """Return the events to send for the last bytes of the stream. Raise GatewayError for a refusal."""
        return await self._pass(data, is_end=True)

    async def _pass(self, data: bytes, *, is_end: bool) -> bytes:
        out: list[bytes] = []
        try:
            for event in self._framer.feed(data):
                out += await self._event(event)
            for event in self._framer.feed(b"\n\n") if is_end and self._framer.is_in_event else ():
                out += await self._event(event)
            out += await self._flush(None) if is_end else []
        except BaseException:
            self._has_ended, self._passed = True, out
            raise
        self._has_ended = is_end
        self.started = self.started or is_end
        if not self.started:
            self._before += out
            return b""
        before, self._before = self._before, []
        return b"".join([*before, *out])

    async def broken(self) -> bytes:
        """Return the events with the texts that the hooks hold back in a broken stream. Raise GatewayError for a refusal.

        If `feed` or `end` has failed, return the events before the one that failed.
        """
        if self._has_ended:
            passed, self._passed = self._passed, []
            return b"".join(passed)
        self.started = self._has_ended = True
        before, self._before = self._before, []
        return b"".join([*before, *await self._flush(None)])

    async def _event(self, raw: bytes) -> list[bytes]:
        frame = self._framer.read(raw)
        if (data := frame.data.strip()) in (b"", b"[DONE]"):
            self.started = self.started or bool(data)
            return [*(await self._flush(None) if data else []), self._framer.passed(raw)]
        event = frame.object
        try:
            if event is not None:
                return await self._texts(event, frame.head, frame.name)
        except RecursionError:  # the event is nested too deeply
            pass
        self._run.note_unreadable("an event without a JSON object")
        return [self._framer.passed(raw)]

    async def _texts(self, event: Event, head: bytes, name: bytes) -> list[bytes]:
        """Pass the texts of an event through the hooks. Return the events to send."""
        slots, groups = slots_of(event), ended_groups(event)
        before: list[bytes] = []
        written = {slot.group: slot.kind for slot in slots if slot.text or slot.kind == "arguments"}  # a tool call may begin empty
        before += await self._flush(None if groups is None else groups, but={slot.channel for slot in slots} if groups is not None else ())
        before += await self._flush(list(written), but={slot.channel for slot in slots}, keeps_arguments=True)
        is_held = False
        for slot in slots:
            is_over, text = self._is_over(slot, written), slot.text
            is_last = groups is not None and (is_over or slot.group in groups)
            sent = await self._piece(slot, text, is_last=is_last)
            is_held = slot.holder is event and bool(text) and not sent
            self._last[slot.channel] = (event, slot, name)
            slot.holder[slot.key] = sent
            self.started = self.started or bool(sent)
            if is_last:
                self._close(slot.channel)
        if is_held:  # no event of the Responses API has an empty piece
            self._inserted -= 1
            return before
        self.started = self.started or self._is_substance(event, slots)
        await self._others(event, "event", "other", {(id(slot.holder), slot.key) for slot in slots})
        return [*before, self._written(head, event)]

    def _is_over(self, slot: Slot, written: dict[str, Kind]) -> bool:
        """Return whether a text ends with its piece in `slot`: one of another kind has begun, or the arguments are complete.

        The pieces of several tool calls may alternate, so other arguments do not end arguments. Some providers repeat a piece of
        reasoning in a second field, so the pieces of one field do not end the other. The input of a custom tool need not be JSON, so
        it does not show its end.
        """
        if slot.kind != "arguments":
            return written.get(slot.group, slot.kind) != slot.kind
        return slot.call is not None and slot.key == "arguments" and self._ends.setdefault(slot.channel, JsonEnd()).feed(slot.text)

    async def _piece(self, slot: Slot, text: str, *, is_last: bool) -> str:
        sent = await self._run.piece(slot.channel, slot.kind, text, is_last=is_last, pieces=self._pieces)
        self._given.setdefault(slot.channel, []).append(text)
        self._sent.setdefault(slot.channel, []).append(sent)
        return sent

    async def _flush(self, groups: list[str] | None, but: Collection[str] = (), *, keeps_arguments: bool = False) -> list[bytes]:
        """End the open channels of these groups (all if None), except those in `but`. Return the events with their last text.

        If `keeps_arguments`, the channels with the arguments of tool calls do not end.
        """
        out: list[bytes] = []
        for channel, (event, slot, name) in list(self._last.items()):
            if channel in but or (groups is not None and slot.group not in groups) or (keeps_arguments and slot.kind == "arguments"):
                continue
            text = await self._piece(slot, "", is_last=True)
            self._close(channel)
            if text:
                self.started = True
                made = carrier(event, slot, text)
                if made.get("type") != event.get("type"):
                    name = str(made.get("type")).encode() if name else b""
                out.append(self._written(b"event: " + name + b"\n" if name else b"", made, is_inserted=True))
                self._inserted += 1
        return out

    def _close(self, channel: str) -> None:
        self._ends.pop(channel, None)
        self._last.pop(channel, None)
        self._whole["".join(self._given.pop(channel, ()))] = "".join(self._sent.pop(channel, ()))

    def _is_substance(self, event: Event, slots: list[Slot]) -> bool:
        """Return whether an event without text may be sent: it is neither a preamble nor an event whose text is held."""
        if slots:
            return False
        choices = event.get("choices")
        if type(choices) is list:
            return any(type(one) is dict and (one.get("finish_reason") or fields(one, "delta").get("tool_calls")) for one in choices)
        kind = event.get("type")
        return type(kind) is not str or ended_groups(event) is None

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

    def _written(self, head: bytes, event: Event, *, is_inserted: bool = False) -> bytes:
        number = event.get("sequence_number")
        if type(number) is int:
            self._number = self._number + 1 if is_inserted else number + self._inserted
            event = {**event, "sequence_number": self._number}
        return self._framer.written(head, _encode(event))
