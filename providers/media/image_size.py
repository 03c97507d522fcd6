"""The width and height of a picture from its header: PNG, JPEG, GIF, WebP, BMP, TIFF, HEIF and AVIF."""

from __future__ import annotations

from providers.media.encoded import Encoded

MAX_JPEG_SEGMENTS = 512
"""Maximum number of segments before the frame header of a JPEG picture. Profiles and thumbnails need a few dozen."""
MIN_HEADER_BYTES = 30
"""The largest header of a fixed size, that of WebP. The size of a picture with fewer bytes is not read."""
MAX_BOX_BYTES = 64 << 10
"""Number of bytes at the beginning of a HEIF picture that are searched for its size."""
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})

Size = tuple[int, int]
"""Width and height in pixels."""


def image_size(data: Encoded) -> Size | None:
    """Return the size of a picture, or None if its format is unknown or its header is incomplete."""
    head = data.read(0, 32)
    size: Size | None = None
    if len(head) < MIN_HEADER_BYTES:
        return None
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        size = _big(head[16:20]), _big(head[20:24])
    elif head[:2] == b"\xff\xd8":
        size = _jpeg(data)
    elif head[:6] in (b"GIF87a", b"GIF89a"):
        size = _little(head[6:8]), _little(head[8:10])
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        size = _webp(head)
    elif head[:2] == b"BM":
        size = _little(head[18:22]), abs(int.from_bytes(head[22:26], "little", signed=True))
    elif head[:4] in (b"II*\0", b"MM\0*"):
        size = _tiff(data, "little" if head[:1] == b"I" else "big")
    elif head[4:8] == b"ftyp":
        size = _heif(data)
    return size if size is not None and size[0] > 0 and size[1] > 0 else None


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _jpeg(data: Encoded) -> Size | None:
    """Return the size in the frame header, which is found by skipping segments by their lengths."""
    offset = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        head = data.read(offset, 9)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker = head[1]
        if marker == 0xFF:  # fill byte
            offset += 1
        elif marker in _WITHOUT_LENGTH:
            offset += 2
        elif marker in _FRAME_HEADERS:
            return (_big(head[7:9]), _big(head[5:7])) if len(head) == 9 else None
        else:
            offset += 2 + max(2, _big(head[2:4]))
    return None


def _webp(head: bytes) -> Size | None:
    kind = head[12:16]
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF
    if kind == b"VP8L" and head[20:21] == b"\x2f":
        bits = _little(head[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return _little(head[24:27]) + 1, _little(head[27:30]) + 1
    return None


def _tiff(data: Encoded, order: str) -> Size | None:
    """Return width and height from the first directory, or None if one of them is missing."""

    def number(source: bytes) -> int:
        return int.from_bytes(source, "little" if order == "little" else "big")

    start = number(data.read(4, 4))
    count = min(number(data.read(start, 2)), 256)
    found: dict[int, int] = {}
    entries = data.read(start + 2, 12 * count)
    for at in range(0, len(entries) - 11, 12):
        tag, kind = number(entries[at : at + 2]), number(entries[at + 2 : at + 4])
        found[tag] = number(entries[at + 8 : at + (10 if kind == 3 else 12)])
    return (found[256], found[257]) if 256 in found and 257 in found else None


def _heif(data: Encoded) -> Size | None:
    """Return the largest size in the image properties: that of the picture itself, because tiles and thumbnails are smaller."""
    head = data.read(0, MAX_BOX_BYTES)
    sizes: list[Size] = []
    at = head.find(b"ispe")
    while at >= 0:
        if len(head) >= at + 16:
            sizes.append((_big(head[at + 8 : at + 12]), _big(head[at + 12 : at + 16])))
        at = head.find(b"ispe", at + 4)
    return max(sizes, key=lambda size: size[0] * size[1], default=None)
