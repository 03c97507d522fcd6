"""The amount of framing that a chunked body may have."""

from __future__ import annotations

import pytest

from gateway.http.chunk_framing import NO_TRAILERS, ChunkFraming
from gateway.http.rejection import CHUNKS_TOO_LARGE, MAX_HEAD_BYTES, MAX_HEADERS, RejectedRequestError


def test_chunks_of_some_size_are_never_too_large() -> None:
    framing = ChunkFraming()
    for _ in range(100_000):
        framing.begin_chunk()
        framing.add_body(10)
        assert not framing.is_too_large(15)


def test_framing_without_a_body_is_limited() -> None:
    framing = ChunkFraming()
    assert not framing.is_too_large(MAX_HEAD_BYTES)
    assert framing.is_too_large(1)


def test_a_long_body_does_not_allow_a_longer_trailer() -> None:
    framing = ChunkFraming()
    framing.add_body(1 << 20)
    assert not framing.is_too_large((1 << 20) + 10)
    assert not framing.is_too_large(MAX_HEAD_BYTES)
    assert framing.is_too_large(1)


def test_extensions_in_every_chunk_add_up() -> None:
    framing, segments = ChunkFraming(), 0
    while segments < 100:
        framing.begin_chunk()
        framing.add_body(1)
        segments += 1
        if framing.is_too_large(1000):
            break
    assert segments == MAX_HEAD_BYTES // 1000 + 1


def test_chunks_of_one_byte_are_rejected_within_a_segment() -> None:
    framing = ChunkFraming()
    for _ in range(MAX_HEAD_BYTES // 4 - 1):
        framing.begin_chunk()
        framing.add_body(1)
    with pytest.raises(RejectedRequestError) as caught:
        framing.begin_chunk()
    assert caught.value.problem == CHUNKS_TOO_LARGE


@pytest.mark.parametrize(("name", "value", "most"), [(b"x", b"y", MAX_HEADERS), (b"x", b"y" * 8000, 2)])
def test_trailers_are_counted_and_not_kept(name: bytes, value: bytes, most: int) -> None:
    trailers = ChunkFraming().trailers
    for _ in range(most):
        trailers.append((name, value))
    assert list(trailers) == []
    with pytest.raises(RejectedRequestError):
        trailers.append((name, value))


def test_requests_without_chunks_have_no_trailers() -> None:
    NO_TRAILERS.append((b"x", b"y"))
    assert list(NO_TRAILERS) == []
