"""The loop of the tokenizer process: one answer to each request, errors included."""

from __future__ import annotations

import io
from typing import Any

import msgspec

from gateway.tokens.tokenizer_child import read_frame, serve, write_frame


def answers(*requests: Any) -> list[Any]:
    source, target = io.BytesIO(), io.BytesIO()
    for request in requests:
        write_frame(source, msgspec.msgpack.encode(request))
    source.seek(0)
    serve(source, target)
    target.seek(0)
    found = []
    while (frame := read_frame(target)) is not None:
        found.append(msgspec.msgpack.decode(frame))
    return found


def test_every_request_is_answered() -> None:
    found = answers(
        ("count", "no_such_encoding", False, [b"hi"]),
        ("count", "o200k_base", False, [b"hi", b""]),
        ("decode", "o200k_base", False, [0, 1 << 40]),
    )
    assert [kind for kind, _ in found] == ["failed", "ok", "unknown"]
    assert found[1][1] == [1, 0]
    assert found[2][1] == 1


def test_a_frame_that_is_cut_off_ends_the_input() -> None:
    for cut in (b"", b"\0\0", b"\0\0\0\x09abc"):
        assert read_frame(io.BytesIO(cut)) is None
