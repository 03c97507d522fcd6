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

    __slots__ = ("_is_native", "_latest", "keep", "translator")

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
        deadlines: CallerDeadlines,
        translator: Translator | None,
    ) -> None:
        """If `translator` is None, nothing is translated."""
        super().__init__(scope, receive, send, deadlines)
        self.translator = translator
        self.keep: Callable[[bytes], Awaitable[bytes]] | None = None
        """Stores the answer, or the last events of a stream, before they are sent; None if they are not stored."""
        self._is_native = translator is None
        """Whether the answer is in the caller's format already."""
        self._latest = b""
        """The latest events."""

    def pass_natively(self) -> None:
        """Mark the answer or the events that follow as native: they are sent as they are."""
        self._is_native = True

    def own_headers(self, headers: Headers) -> Headers:
        """Return response headers under the names of the caller's API."""
        return headers if self.translator is None else self.translator.headers(headers)

    def own_answer(self, body: bytes) -> bytes:
        """Return a JSON answer in the caller's format."""
        return body if self._is_native or self.translator is None else self.translator.answer(body)

    def own_events(self, data: bytes) -> bytes:
        """Return the caller's events, possibly none, for complete events of the answer. The returned events must then be sent."""
        events = data if self._is_native or self.translator is None else self.translator.feed(data)
        if events:
            self._latest = events
        return events

    def own_end(self, data: bytes) -> bytes:
        """Return the caller's last events for the last events of the answer."""
        return data if self._is_native or self.translator is None else self.translator.end(data)

    async def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a complete response in the caller's format."""
        if self.translator is not None:
            kept = self.own_headers(without_length(headers))
            if status >= FIRST_ERROR_STATUS:
                body = self.translator.error(status, body)
            else:
                body = await self._kept(self.own_answer(body))
            headers = with_length(kept, body)
        await super().respond(status, headers, body)

    async def start_stream(self, headers: Headers) -> None:
        """Send the head of a stream."""
        await super().start_stream(self.own_headers(headers))

    async def write(self, data: bytes) -> None:
        """Send native events as they are. Translate chat events, and send the caller's events that result, if any."""
        if events := self.own_events(data):
            await super().write(events)

    async def finish(self, data: bytes) -> None:
        """Send the last events of a stream, or the body of a JSON response, which `respond` has already translated."""
        if self.streaming:
            data = await self._kept(self.own_end(data))
        await super().finish(data)

    async def fail(self, error: bytes) -> None:
        """End a stream with an error in the caller's format."""
        if self.translator is None:
            await super().fail(error)
            return
        events = self.translator.end(b"data: " + error + b"\n\n")
        await super().finish(await self._kept(number_after(events, self._latest) if self._is_native else events))

    async def _kept(self, data: bytes) -> bytes:
        return data if self.keep is None else await self.keep(data)


def without_length(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response without its length, because its body may change."""
    return [header for header in headers if header[0] != b"content-length"]


def with_length(headers: Headers, body: bytes) -> list[tuple[bytes, bytes]]:
    """Return headers with the length of this body added."""
    return [*headers, (b"content-length", b"%d" % len(body))]
