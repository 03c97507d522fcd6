"""Data: URIs of attachments: a text file is sent as its text to vendors that accept no text files."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from providers.base import Refusal
from providers.message_tables import ROWS
from providers.rules.attachments import registered, text_in
from tests.providers.adapting import adapt
from tests.support.each import each

WORDS = "Grüße, 1 < 2"
ENCODED = b64encode(WORDS.encode()).decode()
TEXT = {"type": "text", "text": WORDS}


def file(address: str, **more: str) -> dict[str, Any]:
    """Return a part with a file."""
    return {"type": "file", "file": {"file_data": address, **more}}


@each("address", [
    f"data:text/plain;base64,{ENCODED}", f"data:text/markdown;charset=utf-8;base64,{ENCODED}", f"DATA:application/json;BASE64,{ENCODED}",
    "data:text/plain,Gr%C3%BC%C3%9Fe, 1 < 2",
])  # fmt: skip
def test_the_text_of_a_text_file_is_read(address: str) -> None:
    assert text_in(file(address)) == WORDS


@each("part", [
    file("data:application/pdf;base64,aGk="), file("data:text/plain;base64,/w=="), file("data:text/plain;base64,%%"), file("aGk="),
    {"type": "file", "file": {"file_id": "f"}}, {"type": "file"}, {"type": "file", "file": {"file_data": 1}},
])  # fmt: skip
def test_other_files_have_no_text(part: dict[str, Any]) -> None:
    assert text_in(part) is None


@each("kind", [kind for kind, row in ROWS.items() if not row.text_files and kind != "goodfire"])
@each("place", [0, 1])
def test_a_text_file_is_sent_as_its_text(kind: str, place: int) -> None:
    parts = [{"type": "text", "text": "Read this."}, {"type": "text", "text": "Now."}]
    parts.insert(place, file(f"data:text/plain;base64,{ENCODED}"))
    adapted = adapt(kind, {"messages": [{"role": "user", "content": parts}]}, strict=True)
    content = adapted.sent["messages"][-1]["content"]
    assert WORDS in (content if isinstance(content, str) else content[place]["text"])
    assert (f"messages[0].content[{place}]", "reshape") in adapted.actions()


def test_the_name_of_a_text_file_is_reported() -> None:
    request = {"messages": [{"role": "user", "content": [file(f"data:text/plain;base64,{ENCODED}", filename="a.txt")]}]}
    adapted = adapt("openai", request)
    assert adapted.sent["messages"][0]["content"] == [TEXT]
    assert ("messages[0].content[0].file.filename", "drop") in adapted.actions()
    with pytest.raises(Refusal):
        adapt("openai", request, strict=True)


@each("kind", ["openrouter", "openai-compatible"])
def test_a_text_file_is_kept_where_files_are_accepted(kind: str) -> None:
    part = file(f"data:text/plain;base64,{ENCODED}")
    assert adapt(kind, {"messages": [{"role": "user", "content": [part]}]}).sent["messages"][0]["content"] == [part]


def test_a_common_name_of_a_media_type_is_replaced() -> None:
    assert registered("data:image/jpg;charset=x;base64,aGk=") == "data:image/jpeg;base64,aGk="
    assert registered("https://a.example/b.jpg") == "https://a.example/b.jpg"


@each(("given", "sent"), [
    (file("data:application/pdf;base64,aGk=", filename="a.pdf"),
     {"type": "document_url", "document_url": "data:application/pdf;base64,aGk=", "document_name": "a.pdf"}),
    ({"type": "file", "file": {"file_id": "f1"}}, {"type": "file", "file_id": "f1"}),
    ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}, {"type": "input_audio", "input_audio": "aGk="}),
])  # fmt: skip
def test_mistral_gets_attachments_as_strings(given: dict[str, Any], sent: dict[str, Any]) -> None:
    adapted = adapt("mistral", {"messages": [{"role": "user", "content": [TEXT, given]}]}, strict=True)
    assert adapted.sent["messages"][0]["content"] == [TEXT, sent]
    assert ("messages[0].content[1]", "reshape") in adapted.actions()


@each("part", [
    {"type": "document_url", "document_url": "https://a.example/b.pdf", "document_name": "b"}, {"type": "file", "file_id": "f1"},
    {"type": "reference", "reference_ids": [1]}, {"type": "input_audio", "input_audio": "aGk="}, {"type": "file"},
])  # fmt: skip
def test_parts_in_mistrals_own_form_are_kept(part: dict[str, Any]) -> None:
    adapted = adapt("mistral", {"messages": [{"role": "user", "content": [TEXT, part]}]}, strict=True)
    assert adapted.sent["messages"][0]["content"] == [TEXT, part]
    assert adapted.actions() == []
