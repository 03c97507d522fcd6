"""Pictures of any size in pixels and bytes, of which only the header is real."""

from __future__ import annotations

import base64
import struct


def jpeg(width: int, height: int, size: int) -> bytes:
    """Return a JPEG picture with a profile before its header, of at least `size` bytes."""
    profile = b"\xff\xe2" + struct.pack(">H", 3_002) + bytes(3_000)
    head = b"\xff\xd8" + profile + b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + bytes(10)
    return head + bytes(range(256)) * ((size - len(head)) // 256 + 1)


def image_part(width: int, height: int, size: int, **more: str) -> dict[str, object]:
    """Return the content part with such a picture in a data URL."""
    data = base64.b64encode(jpeg(width, height, size)[:size]).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}", **more}}
