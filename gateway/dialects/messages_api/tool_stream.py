"""Puts the tool calls of a chat stream in sequence, because a Messages stream completes each block before the next one begins.

Chat streams may mix the pieces of parallel calls. The first call is written as it arrives. The next call waits until the
arguments of the first call are a complete JSON object, or until the stream ends.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.messages_api.answer import tool_id
from gateway.dialects.messages_api.chat_message import EMPTY, ToolCall
from gateway.dialects.messages_api.events import BlockWriter
from gateway.dialects.messages_api.fields import Fields, decode_any, encode, is_given, is_text

_decode_arguments = msgspec.json.Decoder(Fields).decode


class StreamedCall:
    """One tool call and the pieces of its arguments, as JSON strings."""

    __slots__ = ("id", "name", "pieces", "written")

    def __init__(self) -> None:
        self.id: Any = None
        self.name: Any = None
        self.pieces: list[bytes] = []
        self.written = 0
        """Number of pieces that were written."""

    def is_complete(self) -> bool:
        """Return whether the arguments are a complete JSON object."""
        if not self.pieces or not self.pieces[-1].rstrip(b' "').endswith((b"}", b"\\n")):
            return False
        text = "".join(decode_any(piece) for piece in self.pieces)
        try:
            _decode_arguments(text.encode(errors="surrogatepass"))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        return True


class ToolStream:
    """The tool calls of one stream, in the order in which they began."""

    def __init__(self, blocks: BlockWriter) -> None:
        self._blocks = blocks
        self._calls: dict[Any, StreamedCall] = {}
        self._queue: list[StreamedCall] = []
        """The calls that are not finished. The pieces of the first one are written as they arrive; the others wait."""
        self._open_call: StreamedCall | None = None
        self._last: Any = None
        self.has_calls = False

    def feed(self, call: ToolCall) -> None:
        """Add a call or a piece of one to the stream."""
        streamed = self._find(call)
        if streamed.id is None and type(call.id) is str and call.id:
            streamed.id = call.id
        function = call.function
        if function is None:
            return
        if streamed.name is None and type(function.name) is str and function.name:
            streamed.name = function.name
        arguments = function.arguments
        if is_text(arguments):
            if bytes(arguments) != EMPTY:
                streamed.pieces.append(bytes(arguments))
        elif is_given(arguments):
            streamed.pieces.append(encode(bytes(arguments).decode(errors="replace")))
        self._write()

    def _find(self, call: ToolCall) -> StreamedCall:
        """Return the call to which a piece belongs: by its index, else by its id, else the latest call."""
        key: Any = call.index
        if type(key) is not int:
            key = call.id if type(call.id) is str and call.id else self._last
        streamed = self._calls.get(key)
        is_other = streamed is not None and type(call.id) is str and call.id and streamed.id not in (None, call.id)
        if streamed is None or is_other:  # some servers use index 0 for each of several calls
            streamed = self._calls[key] = StreamedCall()
            self._queue.append(streamed)
            self.has_calls = True
        self._last = key
        return streamed

    def _write(self) -> None:
        """Write the pieces of the first call. If that call is complete and further calls wait, continue with the next call."""
        queue = self._queue
        while queue:
            first = queue[0]
            if first.name is None:
                return
            self._write_call(first)
            if len(queue) == 1 or not first.is_complete():
                return
            queue.pop(0)

    def _write_call(self, call: StreamedCall) -> None:
        if self._open_call is not call:
            self._open(call)
        for piece in call.pieces[call.written :]:
            self._blocks.delta(b"input_json_delta", b"partial_json", piece)
        call.written = len(call.pieces)

    def _open(self, call: StreamedCall) -> None:
        self._open_call = call
        name = call.name if call.name is not None else ""
        self._blocks.open("tool_use", {"id": tool_id(call.id), "name": name, "input": {}})

    def can_pause(self) -> bool:
        """Return whether other content can follow now: no call waits, and the open call is complete."""
        queue = self._queue
        return not queue or (len(queue) == 1 and queue[0].name is not None and queue[0].is_complete())

    def finish(self) -> None:
        """Write the calls that wait, complete or not."""
        for call in self._queue:
            self._write_call(call)
        self._queue.clear()
