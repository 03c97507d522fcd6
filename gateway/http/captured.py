"""The content of one call, kept while the call runs: the request as it was received, and the beginning of the response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MAX_RESPONSE_BYTES = 72 << 10
"""Maximum number of bytes of a response that are kept.

This number exceeds the number of bytes that are shown, so that a secret at the end of the shown part is complete and can be removed.
"""


class CapturedContent:
    """The content of one call. The bytes of a response are kept as they are sent, without decoding them."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.is_cut = False
        """Whether the response is longer than the part that is kept."""
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def response(self) -> bytes:
        """The bytes of the response that are kept."""
        return b"".join(self._pieces)

    async def send(self, message: MutableMapping[str, Any], *, send: Callable[[Any], Awaitable[None]]) -> None:
        """Keep the body of an ASGI message as far as there is room, and pass the message on to `send`."""
        if body := message.get("body"):
            self.add(body)
        await send(message)

    def add(self, body: bytes) -> None:
        """Keep a piece of the response as far as there is room for it."""
        room = MAX_RESPONSE_BYTES - self._size
        self.is_cut = self.is_cut or len(body) > room
        if room > 0:
            self._pieces.append(bytes(body[:room]))
            self._size += len(self._pieces[-1])
