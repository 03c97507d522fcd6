"""Converts annotations of a chat answer to citations of text blocks. Source: anthropic 2.14.0 (TextCitation)."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gateway.dialects.messages_api.fields import decode_any


class Cited(NamedTuple):
    """A range of the text and its citations."""

    start: int
    end: int
    citations: list[dict[str, Any]]


def read_annotations(raw: msgspec.Raw) -> list[dict[str, Any]]:
    """Return the annotations that are objects."""
    listed = decode_any(raw) if bytes(raw)[:1] == b"[" else []
    return [each for each in listed if type(each) is dict]


def citation_of(annotation: dict[str, Any], text: str = "") -> dict[str, Any] | None:
    """Return the original citation of an annotation, else a citation of its web address, else None.

    `text` is the text to which the annotation belongs.
    """
    original = annotation.get("citation")
    if type(original) is dict:
        return original
    place = annotation.get("url_citation")
    place = place if type(place) is dict else annotation
    url = place.get("url")
    if type(url) is not str or not url:
        return None
    start, end = _range(place, len(text))
    title = place.get("title")
    return {
        "type": "web_search_result_location",
        "url": url,
        "title": title if type(title) is str else None,
        "cited_text": text[start:end],
        "encrypted_index": "",
    }


def _range(place: dict[str, Any], length: int) -> tuple[int, int]:
    start, end = place.get("start_index"), place.get("end_index")
    valid = type(start) is int and type(end) is int and 0 <= start < end <= length
    return (start, end) if valid else (0, length)  # type: ignore[return-value]


def cited_ranges(annotations: list[dict[str, Any]], text: str) -> list[Cited]:
    """Return the ranges that are cited, in order and without overlaps."""
    found: list[Cited] = []
    for annotation in annotations:
        citation = citation_of(annotation, text)
        if citation is not None:
            place = annotation.get("url_citation")
            found.append(Cited(*_range(place if type(place) is dict else annotation, len(text)), [citation]))
    merged: list[Cited] = []
    for cited in sorted(found, key=lambda each: each[:2]):
        if merged and cited.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Cited(last.start, max(last.end, cited.end), [*last.citations, *cited.citations])
        else:
            merged.append(cited)
    return merged


def text_blocks(text: str, annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the blocks of a text: each cited range is a block with its citations."""
    blocks: list[dict[str, Any]] = []
    at = 0
    for cited in cited_ranges(annotations, text):
        if cited.start > at:
            blocks.append({"type": "text", "text": text[at : cited.start]})
        blocks.append({"type": "text", "text": text[cited.start : cited.end], "citations": cited.citations})
        at = cited.end
    if at < len(text):
        blocks.append({"type": "text", "text": text[at:]})
    return blocks
