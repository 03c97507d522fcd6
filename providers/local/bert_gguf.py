"""Writes a BERT embedding model, published as `model.safetensors` and `vocab.txt`, as a GGUF file that the engine loads.

The same input gives the same bytes: tensors keep their 32-bit floats and their order. The names and the keys are those
of llama.cpp's `convert_hf_to_gguf.py` (class BertModel).
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator
from typing import IO, Any

import msgspec

ALIGNMENT = 32
"""Each tensor begins at a multiple of this number of bytes."""
_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 6, 7, 8, 9
_F32 = 0
"""The tensor type of 32-bit floats."""
_NORMAL, _CONTROL = 1, 3
"""Kinds of tokens."""
MEAN = 1
"""The pooling type that takes the mean of all token vectors."""
PIECE = 1 << 20
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
_OUTSIDE = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
_IN_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


class Bert(msgspec.Struct, frozen=True):
    """The properties of a model that do not follow from its weights."""

    name: str
    heads: int
    """Number of attention heads of each layer."""
    norm_epsilon: float
    license: str
    pooling: int = MEAN


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    shape: tuple[int, ...]
    start: int
    size: int


def write_gguf(out: IO[bytes], weights: IO[bytes], vocabulary: str, model: Bert) -> None:
    """Write the model to `out`. `weights` is a safetensors file, and `vocabulary` has one WordPiece token per line.

    Raise ValueError, or KeyError for a missing tensor, if the weights or the vocabulary do not belong to a BERT model.
    """
    tensors = _read_header(weights)
    out.write(_header(tensors, vocabulary.removesuffix("\n").split("\n"), model))
    offset = 0
    for tensor in tensors:
        weights.seek(tensor.start - offset, os.SEEK_CUR)  # skips tensors that the engine does not use
        out.writelines(_pieces(weights, tensor.size))
        out.write(bytes(-tensor.size % ALIGNMENT))
        offset = tensor.start + tensor.size


def _read_header(weights: IO[bytes]) -> list[_Tensor]:
    """Return the tensors that the engine uses, in the order of the file. The stream is then at the first byte of their data."""
    (length,) = struct.unpack("<Q", weights.read(8))
    if length > PIECE:
        raise ValueError("the weights are not a safetensors file")
    listed: dict[str, Any] = json.loads(weights.read(length))
    found = []
    for name, entry in listed.items():
        own = _gguf_name(name)
        if own is None:
            continue
        start, end = entry["data_offsets"]
        if entry["dtype"] != "F32":
            raise ValueError(f"the tensor {name} has the type {entry['dtype']}, not F32")
        found.append(_Tensor(own, tuple(entry["shape"]), start, end - start))
    return sorted(found, key=lambda tensor: tensor.start)


def _gguf_name(name: str) -> str | None:
    """Return llama.cpp's name for a tensor, or None for one that the engine does not use, such as those of the pooler."""
    if own := _OUTSIDE.get(name):
        return own
    found = _LAYER.fullmatch(name)
    part = found and _IN_LAYER.get(found[2])
    return f"blk.{found[1]}.{part}.{found[3]}" if found and part else None


def _header(tensors: list[_Tensor], tokens: list[str], model: Bert) -> bytes:
    """Return everything before the tensors' data, padded."""
    entries = list(_entries({tensor.name: tensor.shape for tensor in tensors}, tokens, model))
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)))
    head += b"".join(entries)
    at = 0
    for tensor in tensors:
        shape = tensor.shape[::-1]  # GGUF lists the fastest-varying dimension first
        head += _text(tensor.name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _F32, at)
        at += tensor.size + -tensor.size % ALIGNMENT
    return bytes(head) + bytes(-len(head) % ALIGNMENT)


def _entries(shapes: dict[str, tuple[int, ...]], tokens: list[str], model: Bert) -> Iterator[bytes]:
    """Yield the keys with their values."""
    positions, width = shapes["position_embd.weight"]
    if shapes["token_embd.weight"] != (len(tokens), width):
        raise ValueError(f"the vocabulary has {len(tokens)} tokens, and the weights have {shapes['token_embd.weight'][0]}")
    yield _string("general.architecture", "bert")
    yield _string("general.name", model.name)
    yield _string("general.license", model.license)
    yield _number("bert.block_count", 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blk.")))
    yield _number("bert.context_length", positions)
    yield _number("bert.embedding_length", width)
    yield _number("bert.feed_forward_length", shapes["blk.0.ffn_up.weight"][0])
    yield _number("bert.attention.head_count", model.heads)
    yield _key("bert.attention.layer_norm_epsilon", _FLOAT32) + struct.pack("<f", model.norm_epsilon)
    yield _key("bert.attention.causal", _BOOL) + b"\0"
    yield _number("bert.pooling_type", model.pooling)
    yield _string("tokenizer.ggml.model", "bert")
    yield _number("tokenizer.ggml.token_type_count", shapes["token_types.weight"][0])
    yield _array("tokenizer.ggml.tokens", _STRING, len(tokens)) + b"".join(_text(_phantom(token)) for token in tokens)
    kinds = [_CONTROL if _is_special(token) else _NORMAL for token in tokens]
    yield _array("tokenizer.ggml.token_type", 5, len(tokens)) + struct.pack(f"<{len(kinds)}i", *kinds)
    for name, token in (("bos", "[CLS]"), ("seperator", "[SEP]"), ("unknown", "[UNK]"), ("padding", "[PAD]"), ("mask", "[MASK]")):
        yield _number(f"tokenizer.ggml.{name}_token_id", tokens.index(token))  # the format spells it "seperator"


def _phantom(token: str) -> str:
    """Return a token as llama.cpp writes it: with a mark at the beginning of a word, not at a continuation."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token[2:] if token.startswith("##") else "\u2581" + token


def _is_special(token: str) -> bool:
    return token in ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _key(name: str, kind: int) -> bytes:
    return _text(name) + struct.pack("<I", kind)


def _string(name: str, value: str) -> bytes:
    return _key(name, _STRING) + _text(value)


def _number(name: str, value: int) -> bytes:
    return _key(name, _UINT32) + struct.pack("<I", value)


def _array(name: str, kind: int, length: int) -> bytes:
    return _key(name, _ARRAY) + struct.pack("<IQ", kind, length)


def _pieces(stream: IO[bytes], count: int) -> Iterator[bytes]:
    """Yield the next `count` bytes."""
    while count:
        piece = stream.read(min(count, PIECE))
        if not piece:
            raise ValueError("the weights are incomplete")
        count -= len(piece)
        yield piece
