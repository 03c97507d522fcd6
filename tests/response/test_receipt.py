"""The receipt: a header that any structured-field parser reads, and the full receipt in the body."""

from __future__ import annotations

import re
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import providers
from gateway.call import Attempt, Call
from gateway.response import receipt
from gateway.streams.chunks import OpeningChunk
from providers.base import Action, Adjustment, Target

STRING = r'"[\x20-\x21\x23-\x5b\x5d-\x7e]*"'
BARE = rf"(?:{STRING}|-?\d{{1,12}}\.\d{{1,3}}|-?\d{{1,15}}|\?[01])"
ITEM = rf"{STRING}(?:;[a-z*][a-z0-9_.*-]*(?:={BARE})?)*"
LIST = re.compile(rf"{ITEM}(?:, {ITEM})*")
"""RFC 8941, section 4.2: a list of string items with parameters."""

numbers = st.integers() | st.floats() | st.floats(999_999_999_999, 1_000_000_000_001) | st.booleans()
values = st.none() | numbers | st.text() | st.lists(st.integers()) | st.sampled_from(["max_tokens", 'a"b', "a\r\nset-cookie: x", "ü"])
params = st.sampled_from(["temperature", "messages[0].role", "top_p"]) | st.text(max_size=300)
adjustments = st.builds(Adjustment, params, st.sampled_from(get_args(Action)), values, values, st.text())


@given(st.lists(adjustments, min_size=1, max_size=60))
@example([Adjustment("top_p", "clamp", 999_999_999_999.9999, 1e12)])
def test_the_header_is_always_a_structured_list_of_at_most_1_kib(made: list[Adjustment]) -> None:
    header = receipt.adjusted_header(made).decode("ascii")
    assert LIST.fullmatch(header), header
    assert len(header) <= 1024


@given(st.integers(1, 500))
def test_what_does_not_fit_is_counted(count: int) -> None:
    header = receipt.adjusted_header([Adjustment("temperature", "clamp", 1.7, 1.0)] * count).decode()
    shown = header.count('"temperature"')
    more = re.search(r'"\.\.\.";more=(\d+)$', header)
    assert shown + (int(more[1]) if more else 0) == count


def test_the_header_reads_as_documented() -> None:
    made = [
        Adjustment("max_tokens", "rename", to="max_completion_tokens"),
        Adjustment("temperature", "clamp", 1.7, 1.0, "Cerebras takes 0 to 1.5"),
        Adjustment("logit_bias", "drop", {"50256": -100}),
        Adjustment("messages[0].role", "role_map", "developer", "system"),
        Adjustment("logprobs", "drop", True),
    ]
    assert receipt.adjusted_header(made) == (
        b'"max_tokens";rename;to="max_completion_tokens", "temperature";clamp;from=1.7;to=1.0, "logit_bias";drop, '
        b'"messages[0].role";role_map;from="developer";to="system", "logprobs";drop;from=?1'
    )


def test_free_text_never_enters_the_header() -> None:
    header = receipt.adjusted_header([Adjustment("stop", "drop", "my secret prompt", "a b", "because of a prompt")])
    assert header == b'"stop";drop'


def target(name: str) -> Target:
    """Return a target of that name."""
    return Target(name, name.partition("/")[0], providers.get("openai"), name.partition("/")[2], "http://upstream/v1")


def call() -> Call:
    """Return a call in its final state."""
    found = Call("chat", "/v1/chat/completions")
    found.model = "smart"
    adjustments = [Adjustment("temperature", "clamp", 1.7, 1.0, "takes 0 to 1")]
    found.attempts = [
        Attempt(target("a/x"), outcome="429", ms=41.0),
        Attempt(target("b/y"), adjustments=adjustments, sent_at=found.started + 0.001),
    ]
    return found


inner = st.recursive(
    st.text() | st.integers(), lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(), one, max_size=3), max_leaves=6
)
answers = st.dictionaries(st.text(max_size=5), inner, max_size=4)


@given(answers.filter(lambda answer: "gateway" not in answer), st.sampled_from(["", " ", "\n"]))
def test_a_spliced_receipt_leaves_every_other_key_as_it_was(answer: dict[str, Any], gap: str) -> None:
    source = gap.encode() + msgspec.json.encode(answer) + gap.encode()
    whole = msgspec.json.decode(receipt.add_to_answer(source, call()))
    told = whole.pop("gateway")
    assert whole == answer
    assert told["model"] == "smart"
    assert told["adjustments"] == [{"param": "temperature", "action": "clamp", "from": 1.7, "to": 1.0, "why": "takes 0 to 1"}]
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["429", "ok"]


@pytest.mark.parametrize(("keeps_stop", "end"), [(False, "the gateway removed it"), (True, "after the stop string")])
def test_the_note_on_a_stop_string_states_whether_the_string_was_removed(keeps_stop: bool, end: str) -> None:
    made = call()
    made.keeps_stop = keeps_stop
    receipt.note_cut(made, made.attempts[1])
    note = made.attempts[1].adjustments[-1]
    assert (note.param, note.action) == ("stop", "enforce_locally")
    assert (note.why or "").endswith(end)


def test_the_receipt_of_a_stream_is_a_chunk_without_choices() -> None:
    made = call()
    event = receipt.receipt_chunk(made, OpeningChunk(id="chatcmpl-1", created=5, model="m"))
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    chunk = msgspec.json.decode(event[6:])
    assert (chunk["id"], chunk["object"], chunk["created"], chunk["model"], chunk["choices"]) == (
        "chatcmpl-1", "chat.completion.chunk", 5, "m", [],
    )  # fmt: skip
    assert chunk["gateway"]["request_id"] == made.id
