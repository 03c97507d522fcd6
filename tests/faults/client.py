"""A caller on a raw socket that can send any bytes, read at any speed and disconnect in any way."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

READ_TIMEOUT_S = 60.0
"""Time without received bytes after which a read fails the test."""
CHAT_PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "say something"}]
HELLO = json.dumps(MESSAGES)


@dataclass
class Answer:
    """A response: its head, its body without framing, and whether the body arrived completely."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool

    def header(self, name: str) -> str | None:
        """Return the first value of a header. The name is in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)

    @property
    def content(self) -> Any:
        """Return the content of a JSON answer. Fail unless the status is 200."""
        assert self.status == 200, self
        return self.json["choices"][0]["message"]["content"]

    @property
    def error(self) -> dict[str, Any]:
        """Return the error object of a JSON answer. Fail unless the answer has the format of OpenAI."""
        assert self.complete, self
        assert self.header("content-type") == "application/json", self
        assert self.header("x-request-id"), self
        assert list(self.json) == ["error"], self
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}, self
        assert type(error["message"]) is str, self
        assert error["message"], self
        return error

    @property
    def events(self) -> list[bytes]:
        """Return the data of all events of a stream. Fail if it has fields other than data, except heartbeats."""
        events = []
        assert self.body.endswith(b"\n\n"), self.body[-200:]
        for event in self.body[:-2].split(b"\n\n"):
            if event != b": keepalive":
                assert event.startswith(b"data: "), event
                assert b"\n" not in event, event
                events.append(event[6:])
        return events

    @property
    def text(self) -> str:
        """Return the content of the first choice of a stream."""
        return "".join(
            choice["delta"].get("content") or ""
            for event in self.events
            if event != b"[DONE]"
            for choice in json.loads(event).get("choices", ())
            if choice["index"] == 0
        )

    @property
    def failure(self) -> dict[str, Any]:
        """Return the error object that ended a stream. Fail unless it is the last event and there is no [DONE]."""
        assert self.status == 200, self
        events = self.events
        assert b"[DONE]" not in events, events
        last = json.loads(events[-1])
        assert list(last) == ["error"], events
        assert all("error" not in json.loads(event) for event in events[:-1]), events
        assert set(last["error"]) == {"message", "type", "param", "code"}, last
        error: dict[str, Any] = last["error"]
        return error


def chat(model: str = "m", **fields: Any) -> dict[str, Any]:
    """Return the body of a chat call."""
    return {"model": model, "messages": MESSAGES, **fields}


def body_with(*fields: str) -> bytes:
    """Return a chat body with additional fields, given as JSON text."""
    return ("{" + ",".join(('"model":"m"', f'"messages":{HELLO}', *fields)) + "}").encode()


class FaultClient:
    """One connection to the gateway."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.received = b""
        """Received bytes that `answer` has not consumed yet."""
        self.ended = False

    @classmethod
    async def connect(cls, port: int, receive_buffer: int | None = None) -> FaultClient:
        """Connect to the gateway. `receive_buffer` limits the bytes that the kernel accepts for a slow reader."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def __aenter__(self) -> FaultClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.socket.close()

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def post(
        self,
        body: bytes | Mapping[str, Any],
        headers: Iterable[tuple[str, str]] = (),
        path: str = CHAT_PATH,
    ) -> None:
        """Send a complete request. A mapping is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.send(request_head(len(content), headers, path) + content)

    async def read_some(self, size: int = 65536, within: float = READ_TIMEOUT_S) -> bytes:
        """Return the next bytes. Return b"" if the gateway closed or reset the connection."""
        try:
            async with asyncio.timeout(within):
                data = await asyncio.get_running_loop().sock_recv(self.socket, size)
        except ConnectionResetError:
            data = b""
        self.received += data
        self.ended = self.ended or not data
        return data

    async def read_until(self, mark: bytes, within: float = READ_TIMEOUT_S) -> None:
        """Read until `mark` arrives. Fail if the connection ends before it."""
        while mark not in self.received:
            assert await self.read_some(within=within), self.received

    async def answer(self, within: float = READ_TIMEOUT_S) -> Answer:
        """Return the next answer, read to the end of its framing or of the connection."""
        while b"\r\n\r\n" not in self.received:
            assert await self.read_some(within=within), self.received
        head, _, _ = self.received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        self.received = self.received[len(head) + 4 :]
        answer = Answer(int(status.split(" ")[1]), headers, b"", complete=False)
        if answer.header("transfer-encoding") == "chunked":
            answer.body, answer.complete = await self._chunks(within)
        else:
            size = int(answer.header("content-length") or 0)
            while len(self.received) < size and not self.ended:
                await self.read_some(within=within)
            answer.complete = len(self.received) >= size
            answer.body, self.received = self.received[:size], self.received[size:]
        return answer

    async def _chunks(self, within: float) -> tuple[bytes, bool]:
        pieces: list[bytes] = []
        while True:
            size, line, rest = self.received.partition(b"\r\n")
            if line and len(rest) >= int(size, 16) + 2:
                length = int(size, 16)
                pieces.append(rest[:length])
                self.received = rest[length + 2 :]
                if not length:
                    return b"".join(pieces), True
            elif self.ended or not await self.read_some(within=within):
                return b"".join(pieces), False

    async def until_closed(self, within: float = READ_TIMEOUT_S) -> float:
        """Read until the gateway closes the connection. Return the seconds that this took."""
        before = time.monotonic()
        while not self.ended:
            await self.read_some(within=within)
        return time.monotonic() - before

    def fin(self) -> None:
        """Close the connection with a FIN."""
        self.socket.close()

    def rst(self) -> None:
        """Reset the connection with an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def half_close(self) -> None:
        """Close the sending side only."""
        self.socket.shutdown(socket.SHUT_WR)


def request_head(length: int | None, headers: Iterable[tuple[str, str]] = (), path: str = CHAT_PATH) -> bytes:
    """Return the head of a POST. If `length` is None, the body is chunked."""
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    more = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{framing}\r\n{more}\r\n".encode("latin-1")


async def ask(port: int, body: bytes | Mapping[str, Any], headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """Make one call on a new connection."""
    async with await FaultClient.connect(port) as client:
        await client.post(body, headers)
        return await client.answer()
