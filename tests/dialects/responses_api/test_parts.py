"""Content parts become those of chat messages; parts that a chat completion lacks are refused or reported."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.dialects.responses_api.changes import Changes
from gateway.dialects.responses_api.parts import read_content
from gateway.dialects.responses_api.values import Raw, decode, encode
from gateway.errors import BadRequest

PDF = "data:application/pdf;base64,JVBERg=="


def content(*parts: Any, strict: bool = True) -> Any:
    """Return the content of a chat message for some parts."""
    return decode(encode(read_content("input[0].content", Raw(encode(parts)), Changes(strict=strict))))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "input_text", "text": "a"}, {"type": "text", "text": "a"}),
        ({"type": "output_text", "text": "a", "annotations": [], "logprobs": []}, {"type": "text", "text": "a"}),
        (
            {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
        ),
        ({"type": "refusal", "refusal": "No"}, {"type": "refusal", "refusal": "No"}),
        (
            {"type": "input_image", "image_url": "http://a/b.png"},
            {"type": "image_url", "image_url": {"url": "http://a/b.png"}},
        ),
        (
            {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low", "file_id": None},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        ),
        (
            {"type": "input_file", "file_data": PDF, "filename": "a.pdf", "detail": "auto"},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}},
        ),
        ({"type": "input_file", "file_id": "file-1"}, {"type": "file", "file": {"file_id": "file-1"}}),
        (
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        ),
    ],
    ids=str,
)
def test_part_becomes_that_of_a_chat_message(part: dict[str, Any], expected: dict[str, Any]) -> None:
    assert content(part) == [expected]


def test_text_passes_with_its_bytes() -> None:
    source = Raw(b'"caf\\u00e9"')
    assert read_content("p", source, Changes(strict=True)) is source


@pytest.mark.parametrize(
    ("part", "param"),
    [
        (3, "input[0].content[0]"),
        ({}, "input[0].content[0].type"),
        ({"type": "video"}, "input[0].content[0].type"),
        ({"type": "computer_screenshot"}, "input[0].content[0].type"),
        ({"type": "input_text"}, "input[0].content[0].text"),
        ({"type": "input_text", "text": 3}, "input[0].content[0].text"),
        ({"type": "input_image"}, "input[0].content[0].image_url"),
        ({"type": "input_image", "image_url": {"url": "x"}}, "input[0].content[0].image_url"),
        ({"type": "input_image", "file_id": "file-1"}, "input[0].content[0].file_id"),
        ({"type": "input_image", "image_url": "x", "detail": "ultra"}, "input[0].content[0].detail"),
        ({"type": "input_file"}, "input[0].content[0].file_data"),
        ({"type": "input_file", "file_url": "ftp://a"}, "input[0].content[0].file_url"),
        ({"type": "input_file", "file_url": 3}, "input[0].content[0].file_url"),
        ({"type": "input_audio"}, "input[0].content[0].input_audio"),
        ({"type": "refusal"}, "input[0].content[0].refusal"),
    ],
    ids=str,
)
def test_invalid_part_is_refused_with_its_place(part: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        content(part, strict=False)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("part", "action"),
    [
        ({"type": "input_image", "image_url": "x", "detail": "original"}, "downgrade"),
        ({"type": "input_file", "file_data": PDF, "detail": "high"}, "drop"),
    ],
)
def test_level_of_detail_that_chat_lacks_is_reported(part: dict[str, Any], action: str) -> None:
    changes = Changes(strict=False)
    read_content("c", Raw(encode([part])), changes)
    assert [(each.param, each.action) for each in changes.made] == [("c[0].detail", action)]
    with pytest.raises(BadRequest):
        content(part)
