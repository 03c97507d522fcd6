"""Conversion by template gives the same result as decoding each chunk."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from providers.chunk_leaves import TEXT, USAGE, VALUE, leaves_of
from providers.chunk_template import text_template
from providers.chunk_templates import ChunkTemplates
from providers.chunk_values import are_usages, are_values
from providers.streams import ChunkNormalizer
from providers.usage import read_usage
from tests.providers.wires import chunk


def choice(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**chunk({}), "choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}


def logprob(value: float) -> dict[str, Any]:
    return {
        "content": [
            {"token": 'a"', "logprob": value, "bytes": None, "top_logprobs": [{"token": "]}", "logprob": value}]}
        ]
    }


TEXTS = (
    "A", "B ", "word", " two words", "", "{}",
    '"', "\\", "\n", '","finish_reason":"stop"', "\u00e9\u200b", "\x00", "\U0001f600", "{", '{"a":', "[", "1",
)  # fmt: skip


def counted(text: str) -> dict[str, Any]:
    return {"prompt_tokens": 1, "completion_tokens": len(text), "total_tokens": 1 + len(text)}


def calling(text: str, **more: Any) -> dict[str, Any]:
    return choice({"tool_calls": [{"function": {"arguments": text}, **more}]})


SHAPES: tuple[Any, ...] = (
    lambda text: choice({"content": text}),
    lambda text: choice({"role": "assistant", "content": text}),
    lambda text: choice({"content": "", "reasoning_content": text}),
    lambda text: choice({"content": "", "reasoning": text}),
    lambda text: choice({"content": text, "reasoning": text[:1]}),
    lambda text: choice({"content": [{"type": "text", "text": text}]}),
    lambda text: choice({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}),
    lambda text: choice({"content": {"type": "text", "text": text}}),
    lambda text: choice({"content": len(text)}),
    lambda text: {**choice({"content": text}), "obfuscation": "x" * len(text)},
    lambda text: {**choice({"content": text}, logprobs=logprob(len(text) / 3)), "obfuscation": "y"},
    lambda text: {**choice({"content": text}), "created": 9},
    lambda text: {**choice({"content": text}), "created": len(text)},
    lambda text: {**choice({"content": text}), "id": "other"},
    lambda text: {**choice({"content": text}), "id": text, "model": text, "system_fingerprint": text},
    lambda text: {**choice({"content": text}), "id": None, "x": [text, {"y": len(text)}]},
    lambda text: {**choice({"content": text}), "error": text or None} if not text else choice({"content": "A"}),
    lambda text: {**choice({"content": text}), "usage": counted(text)},
    lambda text: {**choice({"content": text}), "usage": counted(text), "id": text},
    lambda text: choice({"content": text}, usage=counted(text)),
    lambda text: {**choice({"content": text}), "usage": {"prompt_tokens": len(text) - 2, "completion_tokens": 1}},
    lambda text: choice({"content": text}, index=1),
    lambda text: choice({"content": text}, index=len(text)),
    lambda text: choice({"content": text}, token_ids=[len(text)], stop_reason=text),
    lambda text: {**chunk({}), "choices": [{"index": i, "delta": {"content": text + str(i)}} for i in range(3)]},
    lambda text: {
        **chunk({}),
        "choices": [{"delta": {"content": text}}, {"delta": {"content": text[:1], "reasoning": text}}],
    },
    lambda text: choice({"content": text}, finish_reason=""),
    lambda text: calling(text),
    lambda text: calling(text, index=0),
    lambda text: calling(text, index=0, id="c1"),
    lambda text: calling(text, index=len(text)),
    lambda text: choice({"tool_calls": {"index": 0, "function": {"arguments": text}}}),
    lambda text: choice(
        {"tool_calls": [{"index": 0, "arguments": text}, {"index": 1, "function": {"arguments": text + "x"}}]}
    ),
    lambda text: choice({"content": text, "tool_calls": [{"index": 0, "function": {"arguments": text + "y"}}]}),
    lambda text: choice({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": text}}]}),
    lambda text: choice({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{" + text}}]}),
    lambda text: choice({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": text}}]}),
    lambda text: choice({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}),
    lambda text: choice({"tool_calls": [{"index": 0, "id": "c2", "function": {"name": "g", "arguments": ""}}]}),
    lambda text: choice({"content": text}, finish_reason="stop"),
    lambda text: {
        **chunk({}),
        "choices": [],
        "usage": {"prompt_tokens": 1, "completion_tokens": len(text), "total_tokens": 9},
    },
)


def parsed(chunks: Any, ids: dict[str, int]) -> list[dict[str, Any]]:
    """Return chunks with new ids of calls replaced by their number."""
    decoded = [json.loads(data) for data in chunks]
    for call in [call for c in decoded for o in c["choices"] for call in o["delta"].get("tool_calls") or ()]:
        if call.get("id", "").startswith("call_"):
            call["id"] = ids.setdefault(call["id"], len(ids))
    return decoded


def assert_equal_with_and_without_templates(stream: list[tuple[Any, str, bool]]) -> int:
    """Check that templates do not change the chunks. Return the number of events that were converted without `feed`."""
    count = 0
    fast, slow = ChunkNormalizer(model="m"), ChunkNormalizer(model="m")
    slow._is_clean = False
    fast_ids: dict[str, int] = {}
    slow_ids: dict[str, int] = {}
    usage: dict[str, Any] | None = None
    fast.feed("", json.dumps(chunk({"content": ""})).encode())
    slow.feed("", json.dumps(chunk({"content": ""})).encode())
    for shape, text, is_ascii in stream:
        data = json.dumps(shape(text), ensure_ascii=is_ascii, separators=(",", ":")).encode("utf-8", "surrogatepass")
        event = b"data: " + data + b"\n\n"
        converted = fast.convert(event)
        count += converted is not None
        chunks = [converted[6:-2]] if converted is not None else list(fast.feed("", data))
        slow._templates = ChunkTemplates()  # nothing is known, so each chunk is decoded
        expected = parsed(slow.feed("", data), slow_ids)
        for c in expected:
            if "usage" in c and read_usage(c["usage"]) is not None:
                usage = c["usage"]
            if converted is not None:
                c.pop("usage", None)
        assert parsed(chunks, fast_ids) == expected
        if converted is None and read_usage(shape(text).get("usage")) is not None:
            assert fast.take_usage() is None, "the usage that was sent is the newest"
    left = fast.take_usage()
    assert left is None or json.loads(left)["usage"] == usage
    return count


def random_stream(random: Random) -> list[tuple[Any, str, bool]]:
    """Return chunks of a few sorts, mixed, some of them several times in a row."""
    shapes = random.choices(SHAPES, k=random.randint(1, 4))
    return [
        (shape, random.choice(TEXTS), random.random() < 0.8)
        for shape in random.choices(shapes, k=random.randint(1, 6))
        for _ in range(random.randint(1, 6))
    ]


def check_random_streams(seeds: range) -> None:
    streams = [random_stream(Random(seed)) for seed in seeds]
    converted = sum(assert_equal_with_and_without_templates(stream) for stream in streams)
    assert converted > sum(map(len, streams)) / 4, "templates are used"


def test_templates_give_what_decoding_gives() -> None:
    check_random_streams(range(200))


@pytest.mark.prove
def test_templates_give_what_decoding_gives_for_many_streams() -> None:
    check_random_streams(range(200, 4000))


def encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"


def test_converted_chunk_keeps_its_bytes_or_those_that_were_sent() -> None:
    templates = ChunkTemplates()
    for _ in range(2):
        templates.learn(encoded(choice({"content": "A"}, x=1)), encoded(choice({"content": "A"}, x=1, y=2)))
    given = event(choice({"content": "B"}, x=1)).replace(b"B", b"\\u00e9")
    assert templates.convert(given) == event(choice({"content": "B"}, x=1, y=2)).replace(b"B", b"\\u00e9")
    whole = event(choice({"content": "B"}, x=1))
    for other in (b'"B","role":"user"', b'"\\x"', b'"\x01"', b"1"):
        assert templates.convert(whole.replace(b'"B"', other)) is None


def test_value_that_varied_once_may_vary() -> None:
    templates = ChunkTemplates()
    for number in (1, 2):
        data = encoded({**choice({"content": "A"}), "system_fingerprint": number})
        assert templates.convert(b"data: " + data + b"\n\n") is None
        templates.learn(data, data)
    for value in (3, "three", {"three": [3]}):
        given = event({**choice({"content": "B"}), "system_fingerprint": value})
        assert templates.convert(given) == given
    for broken in (b"1,2", b'"', b"[", b"", b'1,"x":2'):
        assert templates.convert(given.replace(b'{"three":[3]}', broken)) is None


@pytest.mark.parametrize("name", ["index", "finish_reason", "message", "error"])
def test_value_with_an_effect_never_varies(name: str) -> None:
    templates = ChunkTemplates()
    for number in range(8):
        data = encoded(choice({"content": "A"}, **{name: number}))
        assert templates.convert(b"data: " + data + b"\n\n") is None
        templates.learn(data, data)


def test_a_vendors_repair_sees_every_value_but_the_identity() -> None:
    templates = ChunkTemplates(any_values=False)
    for number in (1, 2):
        templates.learn(
            encoded({**choice({"content": "A"}), "x": number}), encoded({**choice({"content": "A"}), "x": number})
        )
    assert templates.convert(event({**choice({"content": "A"}), "x": 3})) is None
    for number in (1, 2, 3):
        templates.learn(encoded({**choice({"content": "A"}), "created": number}), encoded(choice({"content": "A"})))
    assert templates.convert(event({**choice({"content": "B"}), "created": 3})) == event(choice({"content": "B"}))


def test_usage_of_every_chunk_is_left_out_and_the_last_kept() -> None:
    normalizer = ChunkNormalizer()
    normalizer.feed("", encoded(choice({"role": "assistant", "content": ""})))
    events = [event({**choice({"content": "A"}), "usage": counted("x" * number)}) for number in range(4)]
    for number in (0, 1):
        [sent] = normalizer.feed("", events[number][6:-2])
        assert json.loads(sent)["usage"]["completion_tokens"] == number
    assert normalizer.convert(b"".join(events[2:])) == event(choice({"content": "A"})) * 2
    assert json.loads(normalizer.take_usage() or b"")["usage"] == {**counted("xxx")}
    assert normalizer.take_usage() is None
    [sent] = normalizer.feed("", events[2][6:-2])
    assert json.loads(sent)["usage"]["completion_tokens"] == 2


def test_chunks_with_usage_that_are_fed_one_by_one_are_known_already() -> None:
    normalizer = ChunkNormalizer()
    events = [event({**choice({"content": "A"}), "usage": counted("x" * number)}) for number in range(20)]
    for given in events:
        normalizer.feed("", given[6:-2])
    assert normalizer.convert(b"".join(events)) == event(choice({"content": "A"})) * 20


def test_arguments_that_are_converted_count_as_received() -> None:
    templates = ChunkTemplates()
    received: list[str] = []
    data = encoded(calling("A"))
    templates.learn(data, data, {(0, 0): received})
    assert templates.convert(event(calling('"B"')) + event(calling("C"))) is not None
    assert "".join(received) == '"B"C'
    assert templates.convert(event(calling("D")).replace(b"D", b"\\ud83d\\ude00")) is not None
    assert "".join(received) == '"B"C\U0001f600'
    assert templates.convert(event(calling("D")).replace(b"D", b"\\ud83d")) is None
    templates.forget_calls()
    assert templates.convert(event(calling("C"))) is None


def test_stream_in_which_no_two_chunks_are_alike_is_decoded_several_chunks_at_a_time() -> None:
    normalizer = ChunkNormalizer()
    events = [
        event({**choice({"role": "assistant", "content": "A"}), f"x{number}": 1, "id": f"c{number}"})
        for number in range(20)
    ]
    one_by_one = [normalizer.feed("", given[6:-2])[0] for given in events[:10]]
    at_once = normalizer.convert(b"".join(events[10:]))
    sent = [json.loads(data[6:]) for data in (at_once or b"").split(b"\n\n")[:-1]]
    assert [list(c) for c in sent] == [
        ["id", "object", "created", "model", "choices", f"x{number}"] for number in range(10, 20)
    ]
    assert {c["id"] for c in [*map(json.loads, one_by_one), *sent]} == {"c0"}
    assert [c["choices"] for c in sent] == [choice({"content": "A"})["choices"]] * 10
    closer = (
        choice({"content": "A"}, finish_reason="stop"), choice({"content": "A"}, index=1), choice({"tool_calls": []}),
        choice({}, usage={}), {**choice({}), "usage": {}}, {**choice({}), "error": {"code": 1}},
        choice({}, error={"code": 1}), {**choice({}), "choices": []}, [],
    )  # fmt: skip
    for other in closer:
        assert normalizer.convert(events[10] + event(other)) is None  # type: ignore[arg-type]


def test_leaves_are_the_values_that_may_vary() -> None:
    text = ' { "id" : "x", "a":{"b":[1]},"usage":{"n":1}, "choices" : [ { "index":0, "delta":{"role":"a","content":"A\\n"}, "p":1.5 } ] }'
    leaves = leaves_of(text, 1) or []
    assert [(leaf.path, leaf.kind, text[leaf.start : leaf.end]) for leaf in leaves] == [
        (("id",), VALUE, '"x"'),
        (("a",), VALUE, '{"b":[1]}'),
        (("usage",), USAGE, '{"n":1}'),
        (("choices", 0, "delta", "content"), TEXT, "A\\n"),
        (("choices", 0, "p"), VALUE, "1.5"),
    ]


@pytest.mark.parametrize("text", ['{"i\\u0064":1}', '{"id":1,"id":2}', '{"a":1', "[1", ""])
def test_chunk_that_is_written_in_an_unusual_way_has_no_leaves(text: str) -> None:
    assert leaves_of(text, 0) is None


def test_values_must_be_whole() -> None:
    assert are_values(["1", '"a"', "[1,2]", "null"])
    for values in (["1,2"], ["[1", "2]", "3,4"], [""], ["1 "], ["1 2"], ['"'], ["tru"]):
        assert not are_values(values)
    good = '{"prompt_tokens":1,"completion_tokens":2}'
    assert are_usages([good])
    for usage in (
        "{}",
        good + good,
        '{"prompt_tokens":-1,"completion_tokens":2}',
        '{"prompt_tokens":1.5,"completion_tokens":2}',
        "null",
    ):
        assert not are_usages([good, usage])


def test_chunk_with_one_plain_text_needs_one_look() -> None:
    template = text_template("data: " + encoded(choice({"content": 'A"'})).decode(), {})
    assert template is not None
    given = (event(choice({"content": "B"})) + event(choice({"content": "C"}))).decode()
    assert template.convert(given) == (given, [["B", "C"]])
    for other in (
        choice({"content": "A", "reasoning_content": "B"}), choice({"tool_calls": [], "content": "A"}),
        {**choice({"content": "A"}), "obfuscation": "x"}, choice({"content": "A"}, logprobs={"content": []}), choice({}),
    ):  # fmt: skip
        assert text_template("data: " + encoded(other).decode(), {}) is None
    received: list[str] = []
    for_calls = text_template("data: " + encoded(calling("A")).decode(), {(0, 0): received})
    assert for_calls is not None
    assert for_calls.receivers == [(0, received)]
    assert text_template("data: " + encoded(choice({"content": "A"})).decode(), {(0, 0): received}) is None
