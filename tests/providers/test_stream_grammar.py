"""The streams of all provider types keep the grammar of docs/streams.md, however their bytes arrive.

tests/dialects/test_recorded_streams.py tries a hundred thousand chunkings in every API.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

import providers
from gateway.response.upstream_answer import inband_failure
from gateway.streams.relay import Relay
from providers.base import Options, Usage
from providers.usage import read_usage
from tests.providers.adapting import target_for
from tests.providers.stream_grammar import read_stream
from tests.providers.stream_shapes import SHAPES, Shape

TARGETS = {shape.kind: target_for(shape.kind) for shape in SHAPES}
LINE_ENDS = (b"\n", b"\n", b"\r\n", b"\r")
COMMENTS = (b": keepalive", b":", b": OPENROUTER PROCESSING", b"id: 7", b"retry: 100", b"\nunknown")


def lines_of(value: Any, *, several: bool) -> list[bytes]:
    """Return the data lines of an event."""
    if type(value) is str:
        return [b"data: " + value.encode()]
    text = json.dumps(value, indent=0) if several else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return [b"data: " + line.encode() for line in text.split("\n")]


def forms_of(shape: Shape) -> list[tuple[list[bytes], list[bytes]]]:
    """Return the lines of each event, with the data in one line and in several."""
    forms = []
    for name, value in shape.events:
        named = [b"event: " + name.encode()] if name else []
        forms.append(([*named, *lines_of(value, several=False)], [*named, *lines_of(value, several=True)]))
    return forms


FORMS = {id(shape): forms_of(shape) for shape in SHAPES}


def random_bytes(shape: Shape, random: Random) -> bytes:
    """Return the bytes of a stream, in one of the ways in which server-sent events may be written."""
    end = random.choice(LINE_ENDS)
    has_comments, has_lines = random.random() < 0.3, random.random() < 0.2
    lines: list[bytes] = [b"\xef\xbb\xbf: start", b""] if random.random() < 0.05 else []
    for one_line, several in FORMS[id(shape)]:
        if has_comments and random.random() < 0.4:
            lines += [*random.choice(COMMENTS).split(b"\n"), b""]
        lines += several if has_lines and random.random() < 0.5 else one_line
        lines.append(b"")
    return end.join(lines) + end


def random_pieces(wire: bytes, random: Random) -> list[bytes]:
    """Split bytes anywhere, into few or many pieces."""
    count = random.choice((1, 2, 3, 5, 8, 20))
    cuts = sorted(random.randrange(len(wire) + 1) for _ in range(count))
    return [wire[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True)]


def relay(shape: Shape, pieces: list[bytes]) -> tuple[bytes, Usage | None]:
    """Return the events that the caller gets before [DONE], and the usage that is booked."""
    target = TARGETS[shape.kind]
    state = Relay(
        decoder=target.kind.decoder(target, Options(stream=True)),
        usage_asked=True,
        read_usage=read_usage,
        fail=lambda data: inband_failure(target, data),
        choices=shape.choices,
    )
    sent = b"".join([state.feed(piece) for piece in pieces])
    return sent + state.end(), state.usage


def check(shape: Shape, pieces: list[bytes]) -> None:
    """Check the grammar and the assembled answer."""
    sent, booked = relay(shape, pieces)
    messages, shown = read_stream(sent)
    assert sorted(messages) == list(range(shape.choices))
    for message in messages.values():
        assert (message.text, message.reasoning) == (shape.text, shape.reasoning)
        assert message.parsed_calls() == shape.calls
        assert message.finish == shape.finish
    if shape.usage is None:
        assert shown is booked is None
    else:
        assert booked is not None
        assert shown is not None
        assert shape.usage == (booked.prompt_tokens, booked.completion_tokens)
        assert shape.usage == (shown["prompt_tokens"], shown["completion_tokens"])


def check_random_chunkings(count: int, seed: int) -> None:
    """Check each shape with its share of `count` chunkings."""
    random = Random(seed)
    for number in range(count):
        shape = SHAPES[number % len(SHAPES)]
        pieces = random_pieces(random_bytes(shape, random), random)
        try:
            check(shape, pieces)
        except Exception as error:
            raise AssertionError(f"{shape.kind}, {shape.name}: {pieces}") from error


def test_every_type_has_a_shape() -> None:
    built_in = set(providers.OURS)
    assert {shape.kind for shape in SHAPES} == built_in
    assert len(built_in) == 21


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.kind}-{shape.name}")
def test_shape_keeps_the_grammar(shape: Shape) -> None:
    wire = b"".join(b"\n".join([*one_line, b"", b""]) for one_line, _ in FORMS[id(shape)])
    check(shape, [wire])
    check(shape, [bytes([byte]) for byte in wire])


def test_shapes_keep_the_grammar_at_random_chunkings() -> None:
    check_random_chunkings(len(SHAPES) * 6, 13)
