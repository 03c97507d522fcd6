"""Keys and headers of WebSocket handshakes, and the tunnel between two transports."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.passthrough.tunnel import CLOSE_TIMEOUT_S, End, Tunnel
from gateway.passthrough.usage import usage_of_response
from gateway.passthrough.websocket import read_protocols
from gateway.streams.frames import FrameReader
from providers.base import Usage
from tests.support.websocket_peer import CLOSE, TEXT, encode


def test_the_key_is_taken_out_of_the_subprotocols() -> None:
    name = b"sec-websocket-protocol"
    openai = [(name, b"realtime, openai-insecure-api-key.lg-1,openai-beta.realtime-v1")]
    assert read_protocols(openai) == ([b"realtime", b"openai-beta.realtime-v1"], b"lg-1")
    assert read_protocols([(name, b"a"), (name, b"openai-insecure-api-key.k")]) == ([b"a"], b"k")
    assert read_protocols([(name, b"openai-insecure-api-key.")]) == ([], None)
    assert read_protocols([(b"x", b"openai-insecure-api-key.k")]) == ([], None)


def test_the_usage_of_a_realtime_response_is_read() -> None:
    usage = (
        b'{"total_tokens":253,"input_tokens":132,"output_tokens":121,"input_token_details":{"text_tokens":119,"audio_tokens":13,'
        b'"cached_tokens":64},"output_token_details":{"text_tokens":30,"audio_tokens":91}}'
    )
    event = b'{"type":"response.done","response":{"object":"realtime.response","usage":%b}}'
    assert usage_of_response(event % usage) == Usage(132, 121, 64, audio_prompt_tokens=13, audio_output_tokens=91)
    others = [b"null", b"1", b'"x"', b"{}", b"[]"]
    texts = [event % other for other in others] + [(event % usage).replace(b"response.done", b"response.created")]
    texts += [b"not JSON", b"[]", b'{"type":"response.done"}', b'{"type":"response.done","response":1}']
    for text in texts:
        assert usage_of_response(text) is None, text


class FakeTransport:
    """A transport that records the calls of its methods."""

    def __init__(self) -> None:
        self.written = b""
        self.calls: list[str] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> None:
        return None

    def close(self) -> None:
        self.closing = True
        self.calls.append("close")

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


async def tunnel() -> tuple[Tunnel, Any, Any]:
    """Return a tunnel and the transports of its caller and its upstream."""
    joined = Tunnel(10.0, 5.0)
    ours: Any = FakeTransport()
    theirs: Any = FakeTransport()
    joined.join(End(joined, ours, FrameReader(), lambda exc: None), End(joined, theirs, FrameReader(), lambda exc: None))
    return joined, ours, theirs


async def test_a_side_that_accepts_nothing_stops_the_other_one() -> None:
    joined, ours, theirs = await tunnel()
    joined.caller.pause_writing()
    assert (theirs.calls, ours.calls) == (["pause_reading"], [])
    joined.caller.resume_writing()
    joined.upstream.pause_writing()
    assert (theirs.calls, ours.calls) == (["pause_reading", "resume_reading"], ["pause_reading"])


@pytest.mark.parametrize("cut", range(8))
async def test_the_gateways_close_frame_never_interrupts_a_frame(cut: int) -> None:
    joined, ours, theirs = await tunnel()
    frame = encode(TEXT, b"hello")
    joined.upstream.data_received(frame[:cut])
    joined.go_away()
    joined.upstream.data_received(frame[cut:] + encode(TEXT, b"dropped"))
    before = frame if cut else b""
    assert ours.written[: len(before)] == before
    rest = ours.written[len(before) :]
    assert (rest[0], rest[2:4]) == (0x88, (1012).to_bytes(2, "big"))
    assert len(rest) == 2 + rest[1]
    assert theirs.written[0] == 0x88
    assert theirs.written[1] & 0x80
    assert joined.outcome == "drain"
    joined.upstream.data_received(encode(CLOSE, b"\x03\xf4"))
    joined.caller.data_received(encode(CLOSE, b"\x03\xf4", masked=True))
    assert (ours.closing, theirs.closing) == (True, True)


async def test_a_side_that_has_sent_its_close_frame_gets_no_second_one() -> None:
    joined, ours, theirs = await tunnel()
    close = encode(CLOSE, b"\x03\xe8", masked=True)
    joined.caller.data_received(close)
    joined.go_away()
    assert theirs.written == close
    assert ours.written[:1] == b"\x88"
    joined.upstream.data_received(encode(CLOSE, b"\x03\xe8"))
    assert theirs.closing
    joined.upstream.connection_lost(None)
    assert joined.outcome == "ok"


async def test_the_deadlines_are_those_of_silence_of_a_stalled_side_and_of_closing() -> None:
    joined, ours, theirs = await tunnel()
    joined.sweep(100.0)
    joined.sweep(109.0)
    assert joined.outcome is None
    joined.caller.data_received(encode(TEXT, b"x", masked=True))
    joined.sweep(111.0)
    joined.sweep(120.0)
    assert joined.outcome is None
    joined.sweep(121.5)
    assert joined.outcome == "idle"
    joined.sweep(joined._closing_at + CLOSE_TIMEOUT_S + 1)
    assert "abort" in ours.calls
    assert "abort" in theirs.calls
    for side, outcome in (("caller", "caller_stalled"), ("upstream", "stalled")):
        joined, ours, theirs = await tunnel()
        getattr(joined, side).paused_since = 1.0
        joined.sweep(5.0)
        assert joined.outcome is None
        joined.sweep(6.5)
        assert joined.outcome == outcome


async def test_a_side_that_got_a_close_frame_may_answer_it_after_the_other_side_is_lost() -> None:
    joined, ours, _ = await tunnel()
    joined.upstream.data_received(encode(CLOSE, b"\x0f\xa0"))
    joined.upstream.connection_lost(None)
    assert ours.calls == ["write_eof"]
    joined.caller.data_received(encode(TEXT, b"in flight", masked=True))
    assert not ours.closing
    joined.caller.data_received(encode(CLOSE, b"\x0f\xa0", masked=True))
    assert ours.closing
    joined, ours, _ = await tunnel()
    joined.upstream.data_received(encode(TEXT, b"x"))
    joined.upstream.connection_lost(None)
    assert ours.closing


async def test_connection_that_was_reset_is_no_error_at_its_end() -> None:
    joined, ours, _ = await tunnel()

    def write_eof() -> None:
        raise OSError(107, "Transport endpoint is not connected")

    ours.write_eof = write_eof
    joined.upstream.data_received(encode(CLOSE, b"\x0f\xa0"))
    joined.upstream.connection_lost(None)
    assert joined.outcome == "ok"


async def test_both_sides_end_before_the_tunnel_does() -> None:
    joined, _, theirs = await tunnel()
    assert joined.caller.eof_received() is True
    assert "write_eof" in theirs.calls
    assert joined.upstream.eof_received() is False
    assert joined.caller.has_ended
    joined.upstream.connection_lost(None)
    assert not joined._done.done()
    joined.caller.connection_lost(None)
    await joined.run()
    assert joined.outcome == "caller"
