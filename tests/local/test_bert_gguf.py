"""providers.local.bert_gguf: a published model becomes a GGUF file with known bytes, which the real engine loads."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import pytest

from providers.local import gguf
from providers.local.bert_gguf import ALIGNMENT, Bert, write_gguf
from tests.local.tiny_bert import HEADS, VOCABULARY, Tensors, published, safetensors

MODEL = Bert("tiny", heads=HEADS, norm_epsilon=1e-12, license="none")


def converted(tensors: Tensors, vocabulary: str = VOCABULARY, type: str = "F32") -> bytes:
    """Return the GGUF file of a model."""
    out = io.BytesIO()
    write_gguf(out, io.BytesIO(safetensors(tensors, type)), vocabulary, MODEL)
    return out.getvalue()


def test_same_model_gives_the_same_bytes_and_declares_its_pooling(tmp_path: Path) -> None:
    first = converted(published())
    assert hashlib.sha256(first).digest() == hashlib.sha256(converted(published())).digest()
    path = tmp_path / "tiny.gguf"
    path.write_bytes(first)
    assert gguf.pooling_of(path) == gguf.MEAN


def test_tensors_are_aligned_and_keep_their_floats() -> None:
    tensors = published()
    data = converted(tensors)
    (count,) = struct.unpack("<Q", data[8:16])
    assert count == len(tensors) - 1, "the pooler is left out"
    words = tensors["embeddings.word_embeddings.weight"][1]
    assert data.find(words) % ALIGNMENT == 0
    assert all(floats in data for name, (_, floats) in tensors.items() if name != "pooler.dense.weight")


def test_other_vocabulary_is_an_error() -> None:
    with pytest.raises(ValueError, match="the vocabulary has 14 tokens, and the weights have 13"):
        converted(published(), VOCABULARY + "more\n")


def test_other_type_of_numbers_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"has the type F16, not F32"):
        converted(published(), type="F16")


def test_truncated_weights_are_an_error() -> None:
    whole = safetensors(published())
    with pytest.raises(ValueError, match="the weights are incomplete"):
        write_gguf(io.BytesIO(), io.BytesIO(whole[: len(whole) // 2]), VOCABULARY, MODEL)


def test_file_of_another_format_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a safetensors file"):
        write_gguf(io.BytesIO(), io.BytesIO(b"GGUF" * 100), VOCABULARY, MODEL)
