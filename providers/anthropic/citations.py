"""Converts the citations of Anthropic's text blocks to OpenAI's annotations. Source: anthropic 2.14.0 (TextCitation)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def annotations_of(citations: Any, start: int, end: int) -> list[dict[str, Any]]:
    """Return an annotation for each citation of the text between two positions of the answer.

    A citation of a document has no address: its `url` is empty, and `title` names the document. The field `citation` contains Anthropic's
    original citation.
    """
    listed = citations if type(citations) is list else []
    return [_annotation(citation, start, end) for citation in listed if type(citation) is dict]


def _annotation(citation: Mapping[str, Any], start: int, end: int) -> dict[str, Any]:
    url = citation.get("url") or citation.get("source") or ""
    title = citation.get("title") or citation.get("document_title") or ""
    place = {"start_index": start, "end_index": end, "url": str(url), "title": str(title)}
    return {"type": "url_citation", "url_citation": place, "citation": dict(citation)}
