"""The request body of a passed call, read from its caller."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import BadRequest, Headers, RequestTooLarge
from gateway.http.caller import CallerDeadlines
from gateway.http.json_body import CallerDisconnectedError
from gateway.passthrough.caller import CallerBody, PassthroughCaller


def caller(*messages: dict[str, Any]) -> PassthroughCaller:
    """Return a caller that sends these messages."""
    left = list(messages)

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    return PassthroughCaller({"headers": []}, receive, send, CallerDeadlines())


def piece(body: bytes, *, more: bool) -> dict[str, Any]:
    """Return a message with a piece of the body."""
    return {"type": "http.request", "body": body, "more_body": more}


FRAMINGS: list[tuple[Headers, int | None, bool, bool]] = [
    ([], 0, False, False),
    ([(b"content-length", b"0")], 0, True, False),
    ([(b"content-length", b"7")], 7, True, True),
    ([(b"transfer-encoding", b"chunked")], None, True, True),
]
BAD_LENGTHS = {b"11": RequestTooLarge, b"9" * 19: BadRequest, b"x": BadRequest, b"": BadRequest}


async def test_the_head_decides_the_framing() -> None:
    for headers, length, is_declared, has_body in FRAMINGS:
        who = caller()
        body = CallerBody(who, headers, 10)
        assert (body.length, body.is_declared, body.has_body) == (length, is_declared, has_body)
        assert who.reading_body is has_body


async def test_a_bad_or_large_length_is_refused() -> None:
    for value, error in BAD_LENGTHS.items():
        with pytest.raises(error):
            CallerBody(caller(), [(b"content-length", value)], 10)


async def test_pieces_are_read_up_to_the_limit() -> None:
    who = caller(piece(b"", more=True), piece(b"abc", more=True), piece(b"de", more=False))
    body = CallerBody(who, [(b"transfer-encoding", b"chunked")], 5)
    assert [await body.read() for _ in range(4)] == [b"abc", b"de", b"", b""]
    assert (body.size, who.reading_body) == (5, False)
    large = CallerBody(caller(piece(b"abcdef", more=True)), [(b"transfer-encoding", b"chunked")], 5)
    with pytest.raises(RequestTooLarge):
        await large.read()


async def test_a_disconnect_during_the_body_is_an_error() -> None:
    who = caller({"type": "http.disconnect"})
    with pytest.raises(CallerDisconnectedError):
        await CallerBody(who, [(b"content-length", b"5")], 5).read()
    assert who.has_left


class Swept(PassthroughCaller):
    """A caller whose disconnection is recorded."""

    ended: str = ""

    def abort(self) -> None:
        self.ended += "abort "

    def _cancel(self) -> None:
        self.disconnected = True
        self.ended += "cancel"


def swept() -> Swept:
    """Return a caller that is in the middle of its body, with its response in progress."""
    who: Any = Swept({"headers": []}, caller().receive, caller()._send, CallerDeadlines(body=10.0, write_stall=60.0))
    who._waits, who._sending = True, True
    who._awaited_since = who._active_at = 100.0
    return who  # type: ignore[no-any-return]


DEADLINES = [
    (True, True, 109.0, ""), (True, True, 111.0, "cancel"), (True, True, 161.0, "abort cancel"), (True, False, 111.0, "cancel"),
    (False, True, 111.0, ""), (False, True, 161.0, "abort cancel"), (False, False, 999.0, ""),
]  # fmt: skip


async def test_a_late_body_and_a_stalled_response_are_both_noticed() -> None:
    for waits, sending, now, ended in DEADLINES:
        who = swept()
        who._waits, who._sending = waits, sending
        who.sweep(now)
        assert (who.ended, who.stalled) == (ended, bool(ended)), (waits, sending, now)
        assert who.reading_body is (ended != "abort cancel")


async def test_a_piece_of_the_body_is_no_progress_of_the_response() -> None:
    who = caller(piece(b"abc", more=True))
    who._active_at = 100.0
    assert await who.read_piece() == (b"abc", False)
    assert (who._active_at, who._body_bytes) == (100.0, 3)
