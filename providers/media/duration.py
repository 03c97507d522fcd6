"""The duration of recordings from their headers: WAV and MP3, and an upper bound by size for other formats."""

from __future__ import annotations

from providers.media.encoded import Encoded

MIN_BYTES_PER_S = 750
"""The lowest common data rate of compressed speech: Opus and AMR at 6 kbit/s."""
_RATES = {
    (3, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates in kbit/s by version (3: MPEG-1, 2: MPEG-2) and layer bits (3: layer I, 2: layer II, 1: layer III)."""
_SAMPLE_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
MAX_TAG_BYTES = 16 << 20


def audio_seconds(data: Encoded) -> float:
    """Return the duration of a recording, or an upper bound by size if its format is unknown or its header states more than that."""
    head = data.read(0, 12)
    seconds: float | None = None
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        seconds = _wav(data)
    elif head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0):
        seconds = _mp3(data)
    longest = data.size / MIN_BYTES_PER_S
    return min(seconds, longest) if seconds is not None else longest


def _wav(data: Encoded) -> float | None:
    """Return the size of the sound divided by the byte rate, or None if either is unknown. A live recording may not state its size."""
    offset, rate = 12, 0
    for _ in range(64):
        head = data.read(offset, 20)
        if len(head) < 8:
            return None
        size = int.from_bytes(head[4:8], "little")
        if head[:4] == b"fmt ":
            rate = int.from_bytes(head[16:20], "little")
        elif head[:4] == b"data":
            length = max(0, data.size - offset - 8)
            return min(length, size or length) / rate if rate else None
        offset += 8 + size + size % 2
    return None


def _mp3(data: Encoded) -> float | None:
    """Return the duration from the number of frames if the first frame states it, else from the file size and that frame's bit rate.

    Return None if there is no valid first frame.
    """
    start = 0
    head = data.read(0, 10)
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
    frame = data.read(start, 200) if start <= MAX_TAG_BYTES else b""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return None
    version, layer = frame[1] >> 3 & 3, frame[1] >> 1 & 3
    rate_index, sample_index = frame[2] >> 4, frame[2] >> 2 & 3
    if version == 1 or layer == 0 or rate_index in (0, 15) or sample_index == 3:
        return None
    sample_rate = _SAMPLE_RATES[version][sample_index]
    for name in (b"Xing", b"Info", b"VBRI"):
        at = frame.find(name)
        frames = 0
        if at >= 0 and name == b"VBRI":
            frames = int.from_bytes(frame[at + 14 : at + 18], "big")
        elif at >= 0 and frame[at + 7 : at + 8] and frame[at + 7] & 1:
            frames = int.from_bytes(frame[at + 8 : at + 12], "big")
        if frames:
            samples = 384 if layer == 3 else 1152 if version == 3 or layer == 2 else 576
            return frames * samples / sample_rate
    row = (3, layer) if version == 3 else (2, 3 if layer == 3 else 2)
    return max(0, data.size - start) * 8 / (_RATES[row][rate_index] * 1000)
