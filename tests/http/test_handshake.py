"""Heads that are WebSocket handshakes, and the connection until the handshake is answered."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.http.cycle import RequestCycle
from gateway.http.handshake import MAX_EARLY_BYTES, CallerSocket, is_handshake
from tests.support.websocket_peer import KEY

GOOD = [
    (b"host", b"x"), (b"connection", b"Upgrade"), (b"upgrade", b"WebSocket"), (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", KEY),
]  # fmt: skip
EMPTY: tuple[tuple[bytes, bytes], ...] = ()
CHANGES = {
    "none": (b"GET", "1.1", "", EMPTY, True), "post": (b"POST", "1.1", "", EMPTY, False), "http/1.0": (b"GET", "1.0", "", EMPTY, False),
    "length": (b"GET", "1.1", "", ((b"content-length", b"0"),), False),
    "chunks": (b"GET", "1.1", "", ((b"transfer-encoding", b"chunked"),), False),
    "no key": (b"GET", "1.1", "sec-websocket-key", EMPTY, False), "no version": (b"GET", "1.1", "sec-websocket-version", EMPTY, False),
    "version 8": (b"GET", "1.1", "sec-websocket-version", ((b"sec-websocket-version", b"8"),), False),
    "short key": (b"GET", "1.1", "sec-websocket-key", ((b"sec-websocket-key", b"eHg="),), False),
    "no base64": (b"GET", "1.1", "sec-websocket-key", ((b"sec-websocket-key", b"?" * 24),), False),
    "two offers": (b"GET", "1.1", "", ((b"upgrade", b"websocket"),), False),
    "a list": (b"GET", "1.1", "upgrade", ((b"upgrade", b"websocket, h2c"),), False),
}  # fmt: skip


@pytest.mark.parametrize(("method", "version", "without", "more", "result"), CHANGES.values(), ids=CHANGES)
def test_only_a_complete_handshake_without_a_body_counts(
    method: bytes, version: str, without: str, more: tuple[tuple[bytes, bytes], ...], result: bool
) -> None:
    headers = [header for header in GOOD if header[0] != without.encode()] + list(more)
    assert is_handshake(method, version, headers) is result


class FakeTransport:
    """Records the calls of a transport."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, *args))


class FakeConnection:
    """The parts of a connection that a socket uses."""

    def __init__(self) -> None:
        self.transport: Any = FakeTransport()
        self.connections: set[Any] = {self}
        self.lost: list[Exception | None] = []
        self.flow = self.server_state = None
        self.tasks: set[Any] = set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


def socket_of(connection: FakeConnection) -> CallerSocket:
    """Return the socket of a connection."""
    cycle = RequestCycle(connection, {}, keep_alive=False, expects_continue=False)  # type: ignore[arg-type]
    return CallerSocket(connection, cycle)


def test_early_bytes_are_kept_up_to_a_limit() -> None:
    connection = FakeConnection()
    socket = socket_of(connection)
    socket.take_over(b"a")
    assert connection.connections == {socket}
    for _ in range(3):
        socket.data_received(b"b" * MAX_EARLY_BYTES)
    assert [call[0] for call in connection.transport.calls] == ["set_protocol", "pause_reading"]
    protocol: Any = object()
    assert len(socket.accept([(b"x-a", b"1")], protocol)) == 1 + 3 * MAX_EARLY_BYTES
    assert connection.transport.calls[2:] == [
        ("set_protocol", protocol),
        ("write", b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nx-a: 1\r\n\r\n"),
        ("resume_reading",),
    ]


def test_a_header_cannot_add_a_line() -> None:
    for value in (b"1\r\nx-b: 2", b"\n", b"\0"):
        with pytest.raises(RuntimeError):
            socket_of(FakeConnection()).accept([(b"x-a", value)], object())  # type: ignore[arg-type]


def test_a_lost_connection_and_a_shutdown_are_reported() -> None:
    connection = FakeConnection()
    socket, told = socket_of(connection), []
    socket.take_over(b"")
    socket.shutdown()
    socket.on_shutdown = lambda: told.append(1)
    socket.shutdown()
    assert (socket.is_shutting_down, told) == (True, [1])
    socket.connection_lost(None)
    assert (connection.connections, connection.lost) == (set(), [None])
