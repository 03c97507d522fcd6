"""Tokens of the parts of messages, in the forms that callers send."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from providers.media.parts import REMOTE_AUDIO_S, REMOTE_PAGES, PartCount, count_part, is_long_part
from providers.media.table import media_rules
from tests.providers.media.test_duration import wav
from tests.providers.media.test_pdf import document
from tests.support.each import each

PICTURE = json.loads((Path(__file__).parent / "pictures.json").read_text())["pictures"]["png"]
PNG = f"data:image/png;base64,{PICTURE}"  # 321 x 123: one tile
GPT = media_rules("openai", "gpt-4o")
GEMINI = media_rules("gemini", "gemini-2.5-pro")


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@each(
    ("part", "tokens"),
    [
        ({"type": "image_url", "image_url": {"url": PNG}}, 255),
        ({"type": "image_url", "image_url": {"url": PNG + "A" * 400_000}}, 255),
        ({"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}, 85),
        ({"type": "image_url", "image_url": PNG}, 255),
        ({"type": "image", "image": PNG}, 255),
        ({"type": "image", "image": PICTURE}, 255),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, 1_445),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}, 85),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, 1_445),
        ({"type": "image_url", "image_url": {"url": 5}}, 1_445),
        ({"type": "image_url"}, 1_445),
        ({"type": "input_audio", "input_audio": {"data": encoded(wav(30)), "format": "wav"}}, 301),
        ({"type": "audio_url", "audio_url": {"url": "https://example.com/a.wav"}}, 10 * REMOTE_AUDIO_S + 1),
        ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{encoded(document(3))}"}}, 3 * 4_445),
        ({"type": "file", "file": {"file_data": encoded(document(3, b"%" * 600)), "filename": "a.pdf"}}, 3 * 4_445),
        ({"type": "file", "file": {"file_data": PNG}}, 255),
        ({"type": "file", "file": {"file_id": "file-1"}}, REMOTE_PAGES * 4_445),
        ({"type": "document_url", "document_url": "https://example.com/a.pdf"}, REMOTE_PAGES * 4_445),
        ({"type": "file", "file": {"file_data": f"data:application/zip;base64,{encoded(bytes(600))}"}}, 300),
    ],
)
def test_media_are_counted_by_their_headers(part: dict[str, Any], tokens: int) -> None:
    assert count_part(part, GPT) == PartCount(tokens)


@each(
    ("part", "tokens"),
    [
        ({"type": "input_audio", "input_audio": {"data": encoded(wav(30)), "format": "wav"}}, 961),
        ({"type": "file", "file": {"file_data": f"data:audio/wav;base64,{encoded(wav(30))}"}}, 961),
        ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{encoded(document(10))}"}}, 2_580),
        ({"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{encoded(bytes(125_000))}"}}, 2_631),
    ],
)
def test_the_rates_are_those_of_the_vendor(part: dict[str, Any], tokens: int) -> None:
    assert count_part(part, GEMINI) == PartCount(tokens)


def test_plain_text_documents_are_texts() -> None:
    part = {"type": "file", "file": {"file_data": f"data:text/plain;base64,{encoded(b'hello world')}"}}
    assert count_part(part, GPT) == PartCount(0, ("hello world",))


@each("part", [{"type": "thinking", "thinking": "Let me see."}, {"type": "document", "document": {"data": {"title": "a"}}}, {}])
def test_other_parts_are_counted_as_json(part: dict[str, Any]) -> None:
    (text,) = count_part(part, GPT).texts
    assert json.loads(text) == part


def test_only_large_documents_take_long() -> None:
    large = encoded(bytes(200_000))
    assert is_long_part({"type": "file", "file": {"file_data": large}})
    assert not is_long_part({"type": "file", "file": {"file_data": "AAAA"}})
    assert not is_long_part({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{large}"}})
    assert not is_long_part({"type": "input_audio", "input_audio": {"data": large}})
