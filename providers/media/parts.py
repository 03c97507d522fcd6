"""The tokens of the parts of a message that are not text: images, audio, video and files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from providers.media.duration import MIN_BYTES_PER_S, audio_seconds
from providers.media.encoded import Encoded, data_url
from providers.media.image_rules import MAX_EDGE, ImageRule
from providers.media.image_size import Size, image_size
from providers.media.pdf import pdf_pages
from providers.media.table import MediaRules

REMOTE_AUDIO_S, REMOTE_VIDEO_S, REMOTE_PAGES = 600, 600, 20
"""Assumed length of audio, video and documents that only the provider can load."""
MIN_VIDEO_BYTES_PER_S = 12_500
"""The lowest common data rate of video: 100 kbit/s."""
SMALL_FILE_CHARS = 64 << 10
"""Documents up to this size are read on the event loop."""
_MEDIA = ("image", "audio", "video")


class PartCount(msgspec.Struct, frozen=True):
    """The tokens of a part, and the texts in it that a tokenizer must count."""

    tokens: int
    texts: tuple[str, ...] = ()


def count_part(part: Mapping[str, Any], rules: MediaRules) -> PartCount:
    """Count a part of a message that is not plain text."""
    kind = str(part.get("type") or "")
    address, detail, media_type = _source(part, kind)
    if kind in ("image_url", "image", "input_image"):
        return PartCount(_image(address, detail, rules))
    if address is not None:
        family = media_type.partition("/")[0]
        if kind in ("input_audio", "audio_url", "audio") or family == "audio":
            return PartCount(_audio(address, rules))
        if kind in ("video_url", "video") or family == "video":
            return PartCount(_video(address, rules))
        if family == "image":
            return PartCount(_image(address, detail, rules))
        if kind in ("file", "document", "document_url", "input_file") and _is_address(address):
            return _document(address, media_type, rules)
    elif kind == "file" and type(part.get("file")) is dict:
        return PartCount(REMOTE_PAGES * rules.page_tokens())  # a file that was uploaded earlier
    return PartCount(0, (msgspec.json.encode(part).decode(),))


class PartBound(msgspec.Struct, frozen=True):
    """An upper bound for the tokens of a part, and the number of its characters that are not counted as text."""

    tokens: int
    data_chars: int = 0


def bound_part(part: Mapping[str, Any], rules: MediaRules) -> PartBound | None:
    """Return an upper bound for the tokens of a part, or None if no bound is known.

    The bound of a picture follows from its size in pixels, or is the maximum for any picture. The bound of sound
    follows from the size of the data, because headers may be wrong. Video, documents with pages, and sound or
    files that only the provider can load have no bound.
    """
    kind = str(part.get("type") or "")
    address, detail, media_type = _source(part, kind)
    family = media_type.partition("/")[0]
    data = _data(address) if address is not None else None
    if kind in ("image_url", "image", "input_image") or (address is not None and family == "image"):
        return PartBound(_image(address, detail, rules), len(address) if address is not None and data is not None else 0)
    if address is None or data is None:
        return None
    if kind in ("input_audio", "audio_url", "audio") or family == "audio":
        return PartBound(int(data.size / MIN_BYTES_PER_S * rules.audio) + 1, len(address))
    is_text = family == "text" or media_type in ("application/json", "application/xml")
    return PartBound(0) if is_text and data.read(0, 5) != b"%PDF-" else None


def is_long_part(part: Mapping[str, Any]) -> bool:
    """Return whether a part may be a document that is too large to be read on the event loop."""
    if part.get("type") in ("text", "image_url", "input_audio"):
        return False
    address = _source(part, str(part.get("type")))[0]
    return address is not None and len(address) > SMALL_FILE_CHARS


def _source(part: Mapping[str, Any], kind: str) -> tuple[str | None, str | None, str]:
    """Return the address or base64 data of a part, its level of detail, and its media type."""
    value = part.get(kind)
    detail: str | None = None
    media_type = ""
    if type(value) is dict:
        detail = value.get("detail") if type(value.get("detail")) is str else None
        media_type = str(value.get("format") or "") if kind != "input_audio" else "audio/"
        value = next((value[name] for name in ("url", "data", "file_data", "image_url") if type(value.get(name)) is str), None)
    if type(value) is not str:
        value = next((part[name] for name in ("url", "data", "image_url") if type(part.get(name)) is str), None)
    if value is not None and (data := data_url(value)) is not None:
        media_type = data[0]
    return value, detail, media_type


def _is_address(value: str) -> bool:
    return value[:5].lower() == "data:" or "://" in value[:16] or len(value) > 512


def _data(address: str) -> Encoded | None:
    """Return the data in an address, or None if the address is that of a server."""
    found = data_url(address)
    if found is not None:
        return found[1]
    return None if "://" in address[:16] else Encoded(address)


def _image(address: str | None, detail: str | None, rules: MediaRules) -> int:
    data = _data(address) if address is not None else None
    size = image_size(data) if data is not None else None
    if size is None:
        return rules.image.maximum(detail)
    return _tokens(rules.image, (min(size[0], MAX_EDGE), min(size[1], MAX_EDGE)), detail)


@lru_cache(1024)
def _tokens(rule: ImageRule, size: Size, detail: str | None) -> int:
    """Return the tokens of a picture. The result is cached, because pictures of one conversation often have the same size."""
    return rule.tokens(size, detail)


def _audio(address: str, rules: MediaRules) -> int:
    data = _data(address)
    return int((audio_seconds(data) if data is not None else REMOTE_AUDIO_S) * rules.audio) + 1


def _video(address: str, rules: MediaRules) -> int:
    data = _data(address)
    return int((data.size / MIN_VIDEO_BYTES_PER_S if data is not None else REMOTE_VIDEO_S) * rules.video) + 1


def _document(address: str, media_type: str, rules: MediaRules) -> PartCount:
    data = _data(address)
    if data is None:
        return PartCount(REMOTE_PAGES * rules.page_tokens())
    if data.read(0, 5) == b"%PDF-" or media_type == "application/pdf":
        return PartCount(pdf_pages(data) * rules.page_tokens())
    if media_type.startswith("text/") or media_type in ("application/json", "application/xml"):
        return PartCount(0, (data.all().decode(errors="replace"),))
    return PartCount(data.size // 2 if image_size(data) is None else _image(address, None, rules))
