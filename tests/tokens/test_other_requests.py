"""Requests of other APIs are counted by all of their contents."""

from __future__ import annotations

import base64
import json
from typing import Any

from gateway.tokens.counter import TokenCounter
from gateway.tokens.encodings import CountTexts
from gateway.tokens.other_requests import chat_of
from gateway.tokens.tokenizer import Tokenizer
from providers.base import Body
from providers.media.table import media_rules
from tests.support.each import each
from tests.support.pictures import jpeg

PHOTO = base64.b64encode(jpeg(3000, 1200, 200_000)).decode()


def _words(tokenizer: Tokenizer) -> CountTexts:
    return lambda texts: [len(text.split()) for text in texts]


def tokens(request: dict[str, Any]) -> int:
    """Count words, and media as gpt-4o does, without the tokens of the chat format."""
    body = chat_of(Body(json.dumps(request).encode()))
    return TokenCounter(_words).count_now(body, Tokenizer("words"), media_rules("openai", "gpt-4o")).total() - 7


@each(
    ("request", "count"),
    [
        ({"model": "m", "input": "one two three", "metadata": {"a": "b c d"}}, 3),
        ({"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "one two"}]}]}, 8),
        ({"model": "m", "tools": [{"type": "web_search"}], "instructions": "be brief"}, 4),
        ({"model": "m", "input": [{"type": "input_image", "image_url": f"data:image/jpeg;base64,{PHOTO}"}]}, 1_445 + 3),
        ({"model": "m", "messages": [{"type": "image", "source": {"type": "base64", "data": PHOTO}}]}, 1_445 + 6),
        ({"model": "m", "messages": [{"type": "image", "source": {"type": "url", "url": "https://a.b/c.png"}}]}, 1_445 + 6),
        ({"model": "m", "input": [{"type": "input_file", "file_url": "https://a.b/c.pdf"}]}, 20 * 4_445 + 3),
        ({"model": "m", "input": "x" * 400 + " y", "max_output_tokens": 5}, 3),
    ],
)
def test_all_contents_are_counted(request: dict[str, Any], count: int) -> None:
    assert tokens(request) == count
