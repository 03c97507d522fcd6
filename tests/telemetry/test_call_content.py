"""Captured content: the kept parts of a request and a response, masked secrets, and the limits."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec

from gateway.http.captured import MAX_RESPONSE_BYTES, CapturedContent
from gateway.store.responses import OVERHEAD_BYTES, Bounds
from gateway.telemetry import call_records
from gateway.telemetry.call_content import MAX_CONTENT_BYTES, CallContent, stored_content
from gateway.telemetry.call_records import CallRecords
from gateway.telemetry.record_file import RecordFile
from gateway.telemetry.record_query import find_content
from tests.support.each import each
from tests.telemetry.test_record_file import NOW, line

PICTURE = base64.b64encode(bytes(range(256)) * 40).decode()


def shown(request: Any, response: bytes = b"{}", secrets: tuple[str, ...] = (), *, is_cut: bool = False) -> dict[str, Any]:
    """Return the content that is stored."""
    source = request if isinstance(request, bytes) else msgspec.json.encode(request)
    found: dict[str, Any] = msgspec.json.decode(stored_content(CallContent("c", source, response, is_cut, secrets)))
    return found


def test_text_is_kept_and_images_and_sound_are_replaced_by_their_size() -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    sound = {"type": "input_audio", "input_audio": {"data": PICTURE, "format": "wav"}}
    text = {"type": "text", "text": f"what is data:image/png;base64,{PICTURE} and this?"}
    found = shown({"messages": [{"role": "user", "content": [text, picture, sound]}]})["request"]
    size = len(PICTURE)
    assert msgspec.json.decode(found)["messages"][0]["content"] == [
        {"type": "text", "text": f"what is <{size + 22} characters of data> and this?"},
        {"type": "image_url", "image_url": {"url": f"<{size + 22} characters of data>"}},
        {"type": "input_audio", "input_audio": {"data": f"<{size} characters of data>", "format": "wav"}},
    ]


def test_long_text_is_no_data() -> None:
    for text in ("word " * 200, "字" * 500, "https://example.com/" + "a/b?c=" * 80):
        assert msgspec.json.decode(shown({"text": text})["request"]) == {"text": text}


def test_events_of_a_stream_are_kept_as_they_were_sent() -> None:
    events = b'data: {"delta": "Hello"}\n\ndata: {"audio": "' + PICTURE.encode() + b'"}\n\ndata: [DONE]\n\n'
    assert shown({}, events)["response"] == (
        f'data: {{"delta": "Hello"}}\n\ndata: {{"audio": "<{len(PICTURE)} characters of data>"}}\n\ndata: [DONE]\n\n'
    )


@each(
    "secret",
    ["sk-proj-0123456789abcdefghij", "lg-a-0123456789abcdef0", "AKIAIOSFODNN7EXAMPLE00", "AIzaSyA-0123456789abc", "ghp_01234567abcdefgh"],
)
def test_credentials_in_texts_are_masked(secret: str) -> None:
    found = shown({"content": f"my key is {secret}, use it"}, f'data: "{secret}"\n\n'.encode())
    assert secret not in str(found)
    assert "my key is ***, use it" in found["request"]


def test_bearer_tokens_and_the_secrets_of_targets_are_masked() -> None:
    found = shown({"content": "Authorization: Bearer abc.def-ghi, team-secret-word"}, b"team-secret-word", ("team-secret-word",))
    assert "abc.def" not in found["request"]
    assert "team-secret-word" not in str(found)


def test_content_is_cut_to_its_maximum_and_says_so() -> None:
    long = {"content": "long text " * 10_000}
    assert len(shown(long)["request"].encode()) == MAX_CONTENT_BYTES
    assert (shown(long)["cut"], "cut" in shown({}), shown({}, is_cut=True)["cut"]) == (True, False, True)
    assert len(shown({}, b"data: word \n\n" * 10_000)["response"]) == MAX_CONTENT_BYTES


@each("body", [b"", b"\xff\xfe", b'{"a": "\\ud800"}', b"[" * 5_000, b'{"a": NaN}'])
def test_any_bytes_become_text(body: bytes) -> None:
    assert isinstance(shown(body, body)["request"], str)


async def test_the_beginning_of_a_response_is_kept_while_it_is_sent() -> None:
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    captured = CapturedContent(b"{}")
    await captured.send({"type": "http.response.start", "status": 200}, send=send)
    for piece in (b"a" * (MAX_RESPONSE_BYTES - 1), b"bcd", b"e"):
        await captured.send({"type": "http.response.body", "body": piece}, send=send)
    assert b"".join(sent) == b"a" * (MAX_RESPONSE_BYTES - 1) + b"bcde"
    assert captured.response == b"a" * (MAX_RESPONSE_BYTES - 1) + b"b"
    assert captured.is_cut


def content(id: str, text: str = "x") -> CallContent:
    """Return the content of a call with this text."""
    return CallContent(id, msgspec.json.encode({"text": text}), b"{}", False, ())


def test_the_oldest_contents_make_room_and_old_ones_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    each_bytes = len(stored_content(content("0"))) + OVERHEAD_BYTES
    file = RecordFile(path, 1e6, 1 << 20, Bounds(3600.0, 3 * each_bytes))
    for number in range(5):
        file.append([line(str(number))], NOW, [content(str(number))])
    kept = [number for number in range(5) if find_content(path, str(number), NOW - 3600)]
    assert kept == [2, 3, 4]
    assert find_content(path, "4", NOW + 1) is None  # too old, although it is not deleted yet
    file.append([line("later")], NOW + 3700)
    file.close()
    assert find_content(path, "4", 0.0) is None
    assert b'"text"' not in path.read_bytes()


async def test_contents_beyond_the_buffer_are_counted(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(call_records, "MAX_WAITING_CONTENT_BYTES", 40)
    path = tmp_path / "calls.db"
    records = CallRecords(RecordFile(path, 1e9, 1 << 20, Bounds(1e9, 1 << 20)), lambda text: None)
    for number in range(5):
        records.add(line(str(number), ended=2e9), content(str(number)))
    await records.flush()
    await records.stop()
    assert [number for number in range(5) if find_content(path, str(number), 0.0)] == [0, 1]
    assert records.drops == 3
