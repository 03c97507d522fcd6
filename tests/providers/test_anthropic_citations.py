"""Citations of Anthropic's answers are annotations of OpenAI's, in JSON answers and in streams."""

from __future__ import annotations

import json
from typing import Any

from providers.anthropic.citations import annotations_of
from providers.base import Options
from tests.providers.adapting import target_for
from tests.providers.test_anthropic import decoded, streamed

WEB = {"type": "web_search_result_location", "url": "https://example.org", "title": "Example", "cited_text": "B", "encrypted_index": "x"}
PAGE = {"type": "page_location", "document_title": "a.pdf", "document_index": 0, "start_page_number": 1, "cited_text": "B"}


def places(annotations: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the fields of each annotation that OpenAI defines."""
    names = ("start_index", "end_index", "url", "title")
    return [(item["type"], *(item["url_citation"][name] for name in names)) for item in annotations]


EXPECTED = [("url_citation", 2, 5, "https://example.org", "Example"), ("url_citation", 2, 5, "", "a.pdf")]


def test_citations_of_a_json_answer_are_annotations() -> None:
    content = [{"type": "text", "text": "A "}, {"type": "text", "text": "B c", "citations": [WEB, PAGE]}, {"type": "text", "text": "."}]
    message = json.loads(decoded(content=content, stop_reason="end_turn").body)["choices"][0]["message"]
    assert message["content"] == "A B c."
    assert places(message["annotations"]) == EXPECTED
    assert [item["citation"] for item in message["annotations"]] == [WEB, PAGE]


def test_citations_of_a_stream_are_annotations() -> None:
    chunks = streamed(
        {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "A "}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "", "citations": []}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": WEB}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "B c"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": PAGE}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_stop"},
    )
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk != b"[DONE]" and chunk["choices"]]
    assert places([item for delta in deltas for item in delta.get("annotations", ())]) == EXPECTED


def test_text_without_citations_has_no_annotations() -> None:
    assert annotations_of(None, 0, 1) == []
    target = target_for("anthropic")
    body = b'{"type":"message","content":[{"type":"text","text":"A","citations":null}],"stop_reason":"end_turn"}'
    assert b"annotations" not in target.kind.decode(body, target, Options()).body
