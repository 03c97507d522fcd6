"""Tiny BERT models with random weights: as published (safetensors and a vocabulary), and as a reranker in a GGUF file."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

WIDTH, INNER, LAYERS, HEADS, POSITIONS = 32, 64, 2, 2, 128
TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fox", "river", "city", "##s", "capital", "france", "paris")
VOCABULARY = "\n".join(TOKENS) + "\n"
IN_LAYER = {
    "attention.self.query": ("attn_q", (WIDTH, WIDTH)),
    "attention.self.key": ("attn_k", (WIDTH, WIDTH)),
    "attention.self.value": ("attn_v", (WIDTH, WIDTH)),
    "attention.output.dense": ("attn_output", (WIDTH, WIDTH)),
    "attention.output.LayerNorm": ("attn_output_norm", (WIDTH,)),
    "intermediate.dense": ("ffn_up", (INNER, WIDTH)),
    "output.dense": ("ffn_down", (WIDTH, INNER)),
    "output.LayerNorm": ("layer_output_norm", (WIDTH,)),
}
"""Name and shape of the weights of a layer, by the published name."""
Tensors = dict[str, tuple[tuple[int, ...], bytes]]
"""Shape and little-endian 32-bit floats of each tensor, by its name."""


def _random(draw: random.Random, *shape: int) -> tuple[tuple[int, ...], bytes]:
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    return shape, struct.pack(f"<{count}f", *(draw.uniform(-0.5, 0.5) for _ in range(count)))


def published() -> Tensors:
    """Return the tensors under their published names, with a pooler that no engine uses."""
    draw = random.Random(5)
    found = {
        "embeddings.word_embeddings.weight": _random(draw, len(TOKENS), WIDTH),
        "embeddings.position_embeddings.weight": _random(draw, POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": _random(draw, 2, WIDTH),
        "embeddings.LayerNorm.weight": _random(draw, WIDTH),
        "embeddings.LayerNorm.bias": _random(draw, WIDTH),
    }
    for layer in range(LAYERS):
        for name, (_, shape) in IN_LAYER.items():
            found[f"encoder.layer.{layer}.{name}.weight"] = _random(draw, *shape)
            found[f"encoder.layer.{layer}.{name}.bias"] = _random(draw, shape[0])
    found["pooler.dense.weight"] = _random(draw, WIDTH, WIDTH)
    return found


def safetensors(tensors: Tensors, type: str = "F32") -> bytes:
    """Return the tensors as a safetensors file."""
    at, header = 0, {}
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": type, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values())


def write_reranker(path: Path) -> None:
    """Write a model with `pooling: rank`, whose score is a linear function of the first token's vector."""
    tensors = published()
    named: Tensors = {
        "token_embd.weight": tensors["embeddings.word_embeddings.weight"],
        "position_embd.weight": tensors["embeddings.position_embeddings.weight"],
        "token_types.weight": tensors["embeddings.token_type_embeddings.weight"],
        "token_embd_norm.weight": tensors["embeddings.LayerNorm.weight"],
        "token_embd_norm.bias": tensors["embeddings.LayerNorm.bias"],
    }
    for layer in range(LAYERS):
        for name, (own, _) in IN_LAYER.items():
            for part in ("weight", "bias"):
                named[f"blk.{layer}.{own}.{part}"] = tensors[f"encoder.layer.{layer}.{name}.{part}"]
    draw = random.Random(6)
    named["cls.output.weight"], named["cls.output.bias"] = _random(draw, 1, WIDTH), _random(draw, 1)
    numbers = {
        "bert.block_count": LAYERS, "bert.context_length": POSITIONS, "bert.embedding_length": WIDTH, "bert.feed_forward_length": INNER,
        "bert.attention.head_count": HEADS, "bert.pooling_type": 4, "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.unknown_token_id": 1, "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3, "tokenizer.ggml.mask_token_id": 4,
    }  # fmt: skip
    entries = [_text(name) + struct.pack("<II", 4, value) for name, value in numbers.items()]
    entries += [_text(name) + struct.pack("<I", 8) + _text("bert") for name in ("general.architecture", "tokenizer.ggml.model")]
    entries.append(_text("bert.attention.layer_norm_epsilon") + struct.pack("<If", 6, 1e-12))
    entries.append(_text("bert.attention.causal") + struct.pack("<I?", 7, False))
    words = [word[2:] if word.startswith("##") else word if word.startswith("[") else "\u2581" + word for word in TOKENS]
    entries.append(_text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(words)) + b"".join(map(_text, words)))
    kinds = [3 if word.startswith("[") else 1 for word in TOKENS]
    entries.append(_text("tokenizer.ggml.token_type") + struct.pack(f"<IIQ{len(kinds)}i", 9, 5, len(kinds), *kinds))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(named), len(entries)) + b"".join(entries)
    data = b""
    for name, (shape, floats) in named.items():
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], 0, len(data))
        data += floats + bytes(-len(floats) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()
