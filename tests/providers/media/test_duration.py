"""Durations of recordings from their headers."""

from __future__ import annotations

import base64
import io
import struct
import wave

from hypothesis import given
from hypothesis import strategies as st

from providers.media.duration import MIN_BYTES_PER_S, audio_seconds
from providers.media.encoded import Encoded
from tests.support.each import each

# MPEG-1 layer III, 128 kbit/s, 44.1 kHz: a frame of 417 bytes with 1,152 samples.
FRAME = b"\xff\xfb\x90\x00" + bytes(413)


def seconds(data: bytes) -> float:
    return audio_seconds(Encoded(base64.b64encode(data).decode()))


def wav(duration: int, rate: int = 16_000, channels: int = 1) -> bytes:
    """Return a recording of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(bytes(2 * channels * rate * duration))
    return file.getvalue()


@each(("rate", "channels"), [(8_000, 1), (16_000, 1), (24_000, 2)])
def test_the_duration_of_a_wav_file_follows_from_its_byte_rate(rate: int, channels: int) -> None:
    assert seconds(wav(3, rate, channels)) == 3


@each("stated", [0, 0xFFFFFFFF])
def test_a_live_recording_without_a_length_has_that_of_its_data(stated: int) -> None:
    data = wav(2)
    assert seconds(data[:40] + struct.pack("<I", stated) + data[44:]) == 2


def test_the_duration_of_an_mp3_file_follows_from_its_bit_rate() -> None:
    assert abs(seconds(FRAME * 100) - 100 * 1152 / 44_100) < 0.01
    tag = b"ID3\x04\0\0" + bytes([0, 0, 2, 0]) + bytes(256)
    assert abs(seconds(tag + FRAME * 100) - 100 * 1152 / 44_100) < 0.01


@each("name", [b"Xing", b"Info"])
def test_an_mp3_file_with_a_variable_bit_rate_states_its_frames(name: bytes) -> None:
    first = FRAME[:36] + name + struct.pack(">II", 1, 50) + FRAME[44:]
    assert abs(seconds(first + FRAME * 100) - 50 * 1152 / 44_100) < 0.01


def test_slow_mp3_files_of_mpeg_2_have_their_own_rates() -> None:
    assert abs(seconds(b"\xff\xf3\x10\xc4" + bytes(996)) - 1.0) < 0.01  # 8 kbit/s


@each("data", [b"OggS" + bytes(7_496), b"RIFF\0\0\0\0WAVE" + bytes(7_488), b"\xff\xff\xff\xff" + bytes(7_496)])
def test_other_recordings_are_bounded_by_their_size(data: bytes) -> None:
    assert seconds(data) == len(data) / MIN_BYTES_PER_S == 10


def wav_of_rate(rate: int) -> bytes:
    """Return 10 KB of sound whose header states this number of bytes per second."""
    format_chunk = b"fmt \x10\0\0\0\1\0\1\0" + struct.pack("<II", 8_000, rate) + b"\2\0\x10\0"
    return b"RIFF\0\0\0\0WAVE" + format_chunk + b"data" + struct.pack("<I", 10_000) + bytes(10_000)


def mp3_of_frames(count: int) -> bytes:
    return FRAME[:36] + b"Xing" + struct.pack(">II", 1, count) + bytes(500)


@each("data", [wav_of_rate(1), mp3_of_frames(0xFFFFFFFF)])
def test_no_header_states_a_longer_duration_than_the_size_allows(data: bytes) -> None:
    assert seconds(data) == len(data) / MIN_BYTES_PER_S


HEADS = [
    b"RIFF\0\0\0\0WAVEfmt ",
    b"ID3\x04\0\0\0\0\0\0",
    FRAME[:36],
    FRAME[:36] + b"Xing",
    FRAME[:196] + b"Info",
    FRAME[:180] + b"VBRI",
]


@each("head", HEADS)
def test_a_recording_that_is_cut_off_anywhere_is_no_error(head: bytes) -> None:
    for length in range(len(head) + 1):
        assert seconds(head[:length]) <= length / MIN_BYTES_PER_S
    assert seconds(head + FRAME) > 0


@given(st.sampled_from([b"", b"ID3", FRAME[:4], b"RIFF____WAVEfmt ", FRAME[:36] + b"Xing", FRAME[:190] + b"Info"]), st.binary(max_size=300))
def test_the_duration_of_any_data_is_at_most_that_by_size(head: bytes, rest: bytes) -> None:
    assert 0 <= seconds(head + rest) <= len(head + rest) / MIN_BYTES_PER_S
