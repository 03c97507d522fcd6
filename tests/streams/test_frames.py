"""WebSocket frames: boundaries, messages that contain a mark, and close frames, however the bytes are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.streams import frames
from gateway.streams.frames import FrameReader, MessageReader, close_frame
from tests.support.websocket_peer import CLOSE, PING, TEXT, encode, xor

MARK = b"response.done"
PAYLOADS = st.one_of(st.binary(max_size=300), st.just(MARK), st.just(b"x" * 200 + MARK + b"y" * 66_000))
FRAMES = st.lists(st.tuples(st.sampled_from([0, 1, 2, 9, 10]), PAYLOADS, st.booleans(), st.booleans()), max_size=8)


def expected(parts: list[tuple[int, bytes, bool, bool]]) -> list[bytes]:
    """Return the unmasked text messages with the mark, read frame by frame."""
    found: list[bytes] = []
    message: bytes | None = None
    for opcode, payload, masked, final in parts:
        if opcode > 8:
            continue
        if opcode:
            message = b"" if opcode == TEXT else None
        if masked:
            message = None
        if message is not None:
            message += payload
            if final:
                found += [message] if MARK in message else []
        if final:
            message = None
    return found


def wire_of(parts: list[tuple[int, bytes, bool, bool]]) -> bytes:
    """Return the bytes of frames."""
    return b"".join(encode(opcode, payload, masked=masked, final=final) for opcode, payload, masked, final in parts)


@given(parts=FRAMES, cuts=st.lists(st.integers(0, 70_000), max_size=10))
def test_messages_with_the_mark_are_found_however_the_bytes_are_cut(
    parts: list[tuple[int, bytes, bool, bool]], cuts: list[int]
) -> None:
    wire, found = wire_of(parts), []
    reader = MessageReader(MARK, found.append)
    at = 0
    for cut in [*sorted(cut for cut in cuts if cut < len(wire)), len(wire)]:
        reader.feed(wire[at:cut])
        at = cut
    assert found == expected(parts)
    assert reader.is_between_frames
    assert not reader.is_closed


def test_each_byte_moves_the_boundary() -> None:
    for masked in (False, True):
        for size in (0, 1, 125, 126, 200, 65_536):
            wire, reader = encode(TEXT, b"x" * size, masked=masked), FrameReader()
            ends = []
            for byte in range(len(wire)):
                assert reader.read_frame(wire[byte : byte + 1], 0) == 1
                ends.append(reader.is_between_frames)
            assert ends.index(True) == len(wire) - 1
            assert FrameReader().read_frame(wire + b"more", 0) == len(wire)


def test_a_message_over_the_limit_is_not_kept() -> None:
    found: list[bytes] = []
    reader = MessageReader(MARK, found.append)
    half = b"x" * (frames.MAX_MESSAGE_BYTES // 2 + 1)
    wire = encode(TEXT, half, final=False) + encode(0, half, final=False) + encode(0, MARK) + encode(TEXT, MARK)
    for at in range(0, len(wire), 4096):
        reader.feed(wire[at : at + 4096])
        assert reader._size <= frames.MAX_MESSAGE_BYTES + 4096
    assert found == [MARK]


def test_a_close_frame_counts_once_it_is_complete() -> None:
    wire, reader = encode(PING) + encode(CLOSE, b"\x03\xe8bye"), FrameReader()
    reader.feed(wire[:-1])
    assert not reader.is_closed
    reader.feed(wire[-1:])
    assert reader.is_closed


def test_close_frames_are_masked_for_servers_only() -> None:
    plain = close_frame(1012, "restart" * 100, masked=False)
    assert (plain[:2], plain[2:4]) == (bytes((0x88, 125)), b"\x03\xf4")
    cut = close_frame(1008, "\u00e9" * 100, masked=False)
    assert cut[4:].decode() == "\u00e9" * 61, "a character is not cut in half"
    masked = close_frame(1001, "bye", masked=True)
    assert masked[:2] == bytes((0x88, 0x80 | 5))
    assert xor(masked[6:], masked[2:6]) == b"\x03\xe9bye"
