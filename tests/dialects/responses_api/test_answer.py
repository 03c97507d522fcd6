"""A chat completion becomes a response with the types of the openai package."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response

from gateway.dialects.responses_api.answer import from_parts
from gateway.dialects.responses_api.output import identify, usage_of
from gateway.dialects.responses_api.values import ABSENT, Raw, encode
from tests.dialects.responses_api.grammar import assemble, response_of, translator
from tests.providers.wires import answer, chunk


def output(message: dict[str, Any], finish: str = "stop", **more: Any) -> list[dict[str, Any]]:
    """Return the output items of an answer."""
    found: list[dict[str, Any]] = response_of(answer(message, finish), **more)["output"]
    return found


def test_text_is_one_message() -> None:
    response = response_of(answer({"content": "Hello"}, "stop"))
    assert Response.model_validate(response).output_text == "Hello"
    assert (response["id"], response["status"], response["model"], response["created_at"]) == (
        "resp_c1",
        "completed",
        "m",
        1,
    )
    assert response["output"][0]["id"] == "msg_c1_0"


def test_calls_follow_the_text_with_ids_of_their_own() -> None:
    calls = [
        {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for number in range(2)
    ]
    items = output({"content": "So", "tool_calls": calls}, "tool_calls")
    assert [(item["type"], item["id"], item.get("call_id")) for item in items] == [
        ("message", "msg_c1_0", None),
        ("function_call", "fc_c1_1", "c0"),
        ("function_call", "fc_c1_2", "c1"),
    ]


def test_custom_call_and_call_without_an_id() -> None:
    items = output(
        {"content": None, "tool_calls": [{"type": "custom", "custom": {"name": "sh", "input": "ls"}}]}, "tool_calls"
    )
    assert items == [
        {
            "id": "ctc_c1_0",
            "type": "custom_tool_call",
            "status": "completed",
            "input": "ls",
            "call_id": "call_c1_0",
            "name": "sh",
        }
    ]


def test_refusal_annotations_and_logprobs() -> None:
    note = {
        "type": "url_citation",
        "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1},
        "citation": {"x": 1},
    }
    completion = answer({"content": "a", "refusal": "No", "annotations": [note]}, "stop")
    completion["choices"][0]["logprobs"] = {
        "content": [{"token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": []}]
    }
    content = response_of(completion)["output"][0]["content"]
    assert content[0]["annotations"] == [
        {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1, "citation": {"x": 1}}
    ]
    assert content[0]["logprobs"][0]["token"] == "a"
    assert content[1] == {"type": "refusal", "refusal": "No"}


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_cut_answer_is_incomplete(finish: str, reason: str) -> None:
    response = response_of(answer({"content": "a", "reasoning_content": "b"}, finish))
    assert (response["status"], response["incomplete_details"], response["completed_at"]) == (
        "incomplete",
        {"reason": reason},
        None,
    )
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


def test_empty_answer_has_an_empty_message_and_reasoning_alone_has_none() -> None:
    assert output({"content": ""})[0]["content"][0]["text"] == ""
    assert [item["type"] for item in output({"content": None, "reasoning_content": "Hm"}, "length")] == ["reasoning"]


def test_content_in_parts_is_text_and_thinking() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "H"}, {"type": "text", "text": "m"}]},
        {"type": "text", "text": "So"},
    ]
    items = output({"content": parts})
    assert items[0]["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    assert items[1]["content"][0]["text"] == "So"
    assert from_parts(Raw(encode([{"type": "thinking", "thinking": "a"}, 3, {"type": "text", "text": "b"}]))) == (
        Raw(b'"b"'),
        Raw(b'"a"'),
    )


def test_signature_of_a_provider_stays_with_its_item() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": 1}}
    items = output({"content": "a", "tool_calls": [call], "extra_content": {"google": 2}}, "tool_calls")
    assert [item["extra_content"] for item in items] == [{"google": 2}, {"google": 1}]


def test_receipt_and_service_tier_are_kept() -> None:
    response = response_of(answer({"content": "a"}, "stop", service_tier="flex", gateway={"target": "t"}))
    assert (response["service_tier"], response["gateway"]) == ("flex", {"target": "t"})


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 0, 0, 4, 0, 7)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9, "prompt_tokens_details": None}, (3, 0, 0, 4, 0, 9)),
        (
            {
                "prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            (9, 2, 1, 4, 3, 13),
        ),
    ],
)  # fmt: skip
def test_usage_has_the_names_of_this_api(usage: dict[str, Any], expected: tuple[int, ...]) -> None:
    found = usage_of(Raw(encode(usage)))
    assert found is not None
    given, made = found["input_tokens_details"], found["output_tokens_details"]
    assert expected == (
        found["input_tokens"], given["cached_tokens"], given["cache_write_tokens"],
        found["output_tokens"], made["reasoning_tokens"], found["total_tokens"],
    )  # fmt: skip


def test_absent_or_implausible_usage_is_null() -> None:
    assert usage_of(ABSENT) is None
    for reported in (b"null", b"[]", b'{"prompt_tokens":"one","completion_tokens":2}', b'{"prompt_tokens":1}', b'{"total_tokens":3}'):
        assert usage_of(Raw(reported)) is None


def test_usage_with_details_of_another_type_is_kept() -> None:
    found = usage_of(Raw(b'{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":[4]}'))
    assert found is not None
    assert (found["input_tokens"], found["output_tokens"], found["total_tokens"]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("given", "base"), [("chatcmpl-9aF", "9aF"), ("gen 1/x", "gen_1_x"), ("é", "_"), ("a" * 99, "a" * 40)]
)
def test_ids_have_letters_digits_and_underscores(given: str, base: str) -> None:
    assert identify(given, 1, "m").item_id("msg", 0) == f"msg_{base}_0"


def test_answer_without_an_id_gets_one() -> None:
    assert identify(None, None, "m").base


@pytest.mark.parametrize(
    "odd",
    [{"id": 5}, {"id": None}, {"created": 1.5}, {"created": "now"}, {"created": -1}, {"model": None}, {"usage": []}],
    ids=str,
)
def test_odd_values_of_an_upstream_do_no_harm(odd: dict[str, Any]) -> None:
    response = response_of({**answer({"content": "a"}, "stop"), **odd})
    made = translator(stream=True)
    out = made.feed(b"data: " + encode({**chunk({"content": "a"}), **odd}) + b"\n\n")
    streamed = assemble(out + made.end(b"data: [DONE]\n\n"))
    for each in (response, streamed):
        assert each["output"][0]["content"][0]["text"] == "a"
        assert each["id"].startswith("resp_")
        assert each["created_at"] > 0


def test_unknown_finish_reason_is_complete() -> None:
    for finish in ("eos", 5, ["length"]):
        assert response_of(answer({"content": "a"}, finish))["status"] == "completed"  # type: ignore[arg-type]
