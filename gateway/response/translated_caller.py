"""A caller of an API other than chat completions. Responses are translated to this API, unless they are native."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from gateway.dialects.dialect import Translator
from gateway.dialects.responses_api.errors import number_after
from gateway.errors import Headers
from gateway.http.caller import Caller, CallerDeadlines, Send
from gateway.http.json_body import Receive

FIRST_ERROR_STATUS = 400


class TranslatedCaller(Caller):
    """A caller whose answers, events and errors pass through a translator. Native answers and events do not."""

    __slots__ = ("_is_native", "_sent", "_translator", "keep")

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
        deadlines: CallerDeadlines,
        translator: Translator,
    ) -> None:
        super().__init__(scope, receive, send, deadlines)
        self._translator = translator
        self.keep: Callable[[bytes], Awaitable[bytes]] | None = None
        """Stores the answer, or the last events of a stream, before they are sent; None if they are not stored."""
        self._is_native = False
        """Whether the answer is in the caller's format already."""
        self._sent = b""
        """The latest events."""

    def pass_natively(self) -> None:
        """Mark the answer or the events that follow as native: they are sent as they are."""
        self._is_native = True

    async def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a complete response in the caller's format."""
        translator = self._translator
        kept = translator.headers([(name, value) for name, value in headers if name != b"content-length"])
        if status >= FIRST_ERROR_STATUS:
            body = translator.error(status, body)
        else:
            body = await self._kept(body if self._is_native else translator.answer(body))
        await super().respond(status, [*kept, (b"content-length", b"%d" % len(body))], body)

    async def start_stream(self, headers: Headers) -> None:
        """Send the head of a stream."""
        await super().start_stream(self._translator.headers(headers))

    async def write(self, data: bytes) -> None:
        """Send native events as they are. Translate chat events, and send the caller's events that result, if any."""
        events = data if self._is_native else self._translator.feed(data)
        if events:
            self._sent = events
            await super().write(events)

    async def finish(self, data: bytes) -> None:
        """Send the last events of a stream, or the body of a JSON response, which `respond` has already translated."""
        if self.streaming:
            data = await self._kept(data if self._is_native else self._translator.end(data))
        await super().finish(data)

    async def fail(self, error: bytes) -> None:
        """End a stream with an error in the caller's format."""
        events = self._translator.end(b"data: " + error + b"\n\n")
        await super().finish(await self._kept(number_after(events, self._sent) if self._is_native else events))

    async def _kept(self, data: bytes) -> bytes:
        return data if self.keep is None else await self.keep(data)
