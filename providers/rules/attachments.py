"""The data: URIs of images and files: registered media types, and the text of text files."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote_to_bytes

_MEDIA = re.compile(r"data:([^;,]*)((?:;[^;,]*)*?)(;base64)?,", re.IGNORECASE)
MEDIA_TYPES: Mapping[str, str] = MappingProxyType({"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg"})
"""Registered media types by names that are common but not registered."""
_TEXTS = frozenset({"application/json", "application/xml", "application/yaml", "application/x-yaml"})
"""Media types of texts, besides `text/...`."""


def registered(address: str) -> str:
    """Return a data: URI with a registered media type and, if it is base64, without parameters. Return other addresses as they are."""
    match = _MEDIA.match(address) if address[:5].lower() == "data:" else None
    if match is None:
        return address
    media = match[1].strip().lower()
    prefix = f"data:{MEDIA_TYPES.get(media, media)}{';base64' if match[3] else match[2]},"
    return prefix + address[match.end() :] if prefix != match[0] else address


def text_in(part: dict[str, Any]) -> str | None:
    """Return the text of a `file` part that holds a text file in UTF-8, or None for another part."""
    file = part.get("file")
    address = file.get("file_data") if type(file) is dict else None
    match = _MEDIA.match(address) if type(address) is str else None
    if type(address) is not str or match is None:
        return None
    media = match[1].strip().lower()
    if not media.startswith("text/") and media not in _TEXTS:
        return None
    data = address[match.end() :]
    try:
        return (b64decode(data, validate=True) if match[3] else unquote_to_bytes(data)).decode()
    except ValueError:
        return None


def flat_part(part: dict[str, Any]) -> dict[str, Any] | None:
    """Return a part with a file or audio in OpenAI's form as Mistral writes it, or None for another part.

    The format of audio is left out, because the data states it.
    """
    kind = part.get("type")
    given = part.get(kind) if kind in ("file", "input_audio") else None
    if type(given) is not dict:
        return None
    if kind == "input_audio":
        return {"type": kind, kind: given["data"]} if type(given.get("data")) is str else None
    if type(given.get("file_data")) is str:
        name = {"document_name": given["filename"]} if given.get("filename") else {}
        return {"type": "document_url", "document_url": given["file_data"], **name}
    return {"type": kind, "file_id": given["file_id"]} if type(given.get("file_id")) is str else None
