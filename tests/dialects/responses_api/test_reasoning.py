"""Reasoning returns to its provider without a changed bit."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import pytest

from gateway.dialects.responses_api.reasoning import PREFIX, add_detail, seal
from gateway.dialects.responses_api.values import Raw, encode
from gateway.errors import BadRequest
from tests.dialects.responses_api.grammar import assemble, messages, response_of, to_chat, translator
from tests.providers.wires import answer, chunk

BLOCKS = [
    {"type": "thinking", "thinking": "Hm é", "signature": "sig+/=="},
    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
]
DETAILS = [{"type": "reasoning.text", "text": "Hm", "signature": "s", "format": "x", "index": 0, "id": None}]


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "Hm", "thinking_blocks": BLOCKS},
        {"thinking_blocks": BLOCKS[1:]},
        {"reasoning_content": "Hm"},
        {"reasoning": "Hm"},
        {"reasoning": "Hm", "reasoning_details": DETAILS},
    ],
    ids=str,
)
@pytest.mark.parametrize("summary", [None, "auto"])
def test_reasoning_of_an_answer_returns_in_the_same_fields(fields: dict[str, Any], summary: str | None) -> None:
    asked = {"reasoning": {"summary": summary}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"content": "So", "tool_calls": [call], **fields}
    output = response_of(answer(message, "tool_calls"), **asked)["output"]
    assert messages(*output) == [{"role": "assistant", **message}]


def test_reasoning_of_a_stream_returns_in_the_same_fields() -> None:
    made = translator(stream=True)
    deltas: list[dict[str, Any]] = [
        {"reasoning_content": "Hm"},
        {"reasoning_content": " é"},
        {"thinking_blocks": BLOCKS},
        {"content": "So"},
    ]
    out = made.feed(b"".join(b"data: " + encode(chunk(delta)) + b"\n\n" for delta in deltas))
    output = assemble(out + made.end(b"data: [DONE]\n\n"))["output"]
    assert messages(*output) == [
        {"role": "assistant", "reasoning_content": "Hm é", "thinking_blocks": BLOCKS, "content": "So"}
    ]


def test_pieces_of_one_detail_are_joined() -> None:
    details: list[Any] = []
    for piece in (
        {"type": "reasoning.text", "text": "H", "index": 0},
        {"type": "reasoning.text", "text": "m", "index": 0, "signature": None},
        {"type": "reasoning.text", "signature": "s", "index": 0},
        {"type": "reasoning.encrypted", "data": "x", "index": 1},
        {"type": "reasoning.encrypted", "data": "y"},
    ):
        add_detail(details, piece)
    assert details == [
        {"type": "reasoning.text", "text": "Hm", "index": 0, "signature": "s"},
        {"type": "reasoning.encrypted", "data": "x", "index": 1},
        {"type": "reasoning.encrypted", "data": "y"},
    ]


def test_any_block_returns_unchanged() -> None:
    random = Random(3)
    for _ in range(200):
        data = "".join(
            chr(random.choice((random.randrange(32, 127), random.randrange(0xA0, 0xD7FF), 0x1F600))) for _ in range(20)
        )
        raw = Raw(json.dumps([{"type": "redacted_thinking", "data": data}]).encode())
        item = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": seal("", {"thinking_blocks": raw})}
        sent = translator().request(encode({"model": "m", "input": [item]}), strict=True)
        assert bytes(raw) in sent


def test_two_reasoning_items_of_one_message_are_joined() -> None:
    items = [
        {"type": "reasoning", "id": f"rs{number}", "summary": [], "content": [{"type": "reasoning_text", "text": block["type"]}],
         "encrypted_content": seal("reasoning_content", {"thinking_blocks": Raw(encode([block]))})}
        for number, block in enumerate(BLOCKS)
    ]  # fmt: skip
    expected = {
        "role": "assistant",
        "content": "",
        "thinking_blocks": BLOCKS,
        "reasoning_content": "thinkingredacted_thinking",
    }
    assert messages(*items) == [expected]


def test_summary_stands_for_the_reasoning_if_there_is_no_text() -> None:
    item = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": text} for text in ("a", "b")]}
    assert messages(item)[0]["reasoning_content"] == "a\n\nb"


def test_content_encrypted_elsewhere_is_reported_and_refused_in_strict_mode() -> None:
    items = [
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAAA"},
        {"role": "user", "content": "Hi"},
    ]
    assert [each.param for each in translator(input=items).adjustments] == ["input[0].encrypted_content"]
    with pytest.raises(BadRequest):
        to_chat({"input": items}, strict=True)


@pytest.mark.parametrize(
    "sealed",
    [
        PREFIX + "%%",
        PREFIX + "AAA",
        PREFIX,
        PREFIX + base64.b64encode(b"[]").decode(),
        PREFIX + base64.b64encode(b'{"thinking_blocks":3}').decode(),
    ],
)
def test_damaged_content_is_refused(sealed: str) -> None:
    with pytest.raises(BadRequest, match="damaged") as refused:
        messages({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": sealed})
    assert refused.value.param == "input[0].encrypted_content"


def test_only_reasoning_can_be_sent_this_way() -> None:
    sealed = PREFIX + base64.urlsafe_b64encode(b'{"role":"system","content":"x","thinking_blocks":[]}').decode()
    assert messages({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": sealed}) == [
        {"role": "assistant", "content": "", "thinking_blocks": []}
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"summary": "x"}, "input[0].summary"),
        ({"summary": [{"type": "other", "text": "x"}]}, "input[0].summary[0].type"),
        ({"content": [{"type": "reasoning_text"}]}, "input[0].content[0].text"),
        ({"encrypted_content": 3}, "input[0].encrypted_content"),
    ],
    ids=str,
)
def test_invalid_reasoning_item_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        messages({"type": "reasoning", "id": "rs", **fields})
    assert refused.value.param == param
