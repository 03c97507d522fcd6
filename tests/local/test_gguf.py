"""The pooling that a GGUF file declares: read from headers made here, and used by the real engine."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.local.gguf import pooling_of
from tests.flows.live import eventually, live
from tests.support.each import each
from tests.support.plain_http import WITHOUT_AUTHORITIES

TEXT, NUMBERS, TEXTS = (8, b"\x01\0\0\0\0\0\0\0x"), (9, struct.pack("<IQ3I", 4, 3, 1, 2, 3)), (9, struct.pack("<IQQ1s", 8, 1, 1, b"t"))
MEAN, CLS, LAST = 1, 2, 3


def entry(name: bytes, kind: int, value: bytes) -> bytes:
    """Return one key with its value."""
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def header(*entries: bytes) -> bytes:
    """Return the header of a file without tensors."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries)


def pooling(kind: int, type: int = 4) -> bytes:
    """Return the entry for a way of pooling."""
    return entry(b"bert.pooling_type", type, struct.pack("<I", kind))


OTHERS = (entry(b"a", *TEXT), entry(b"b", *NUMBERS), entry(b"c", *TEXTS), entry(b"d", 7, b"\1"), entry(b"e", 12, b"\0" * 8))
CASES: tuple[tuple[bytes, int], ...] = (
    (header(pooling(MEAN)), MEAN),
    (header(*OTHERS, pooling(CLS)), CLS),
    (header(*OTHERS, pooling(LAST, 5), *OTHERS), LAST),
    (header(*OTHERS, pooling(0)), 0),
    (header(*OTHERS, pooling(9)), 0),
    (header(*OTHERS), 0),
    (header(entry(b"bert.pooling_type", *TEXT)), 0),
    (header(*OTHERS, pooling(CLS))[:-3], 0),
    (header(entry(b"a", 99, b""), pooling(CLS)), 0),
    (b"PK\3\4", 0),
    (b"", 0),
)


def test_pooling_is_found_behind_every_type_of_value(tmp_path: Path) -> None:
    @each(("data", "expected"), CASES)
    def found(data: bytes, expected: bool) -> None:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        assert pooling_of(path) == expected

    found()
    assert not pooling_of(tmp_path / "absent.gguf")


def test_any_damage_is_no_pooling_and_no_error(tmp_path: Path) -> None:
    whole, path = header(*OTHERS, pooling(CLS)), tmp_path / "model.gguf"

    @settings(max_examples=60)
    @given(st.integers(0, len(whole) - 1), st.binary(max_size=12))
    def damaged(at: int, junk: bytes) -> None:
        path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
        assert pooling_of(path) in range(5)

    damaged()


def with_pooling(model: Path, to: Path, kind: int) -> None:
    """Write a copy of a model that declares pooling. Tensors stay aligned, because a second entry fills up the header."""
    data = model.read_bytes()
    tensors, keys = struct.unpack("<QQ", data[8:24])
    declared = entry(b"llama.pooling_type", 4, struct.pack("<I", kind))
    empty = len(entry(b"pad", 8, struct.pack("<Q", 0)))
    fill = -(len(declared) + empty) % 32
    padding = entry(b"pad", 8, struct.pack("<Q", fill) + b"x" * fill)
    to.write_bytes(data[:8] + struct.pack("<QQ", tensors, keys + 2) + declared + padding + data[24:])


@pytest.mark.prove
@pytest.mark.timeout(120)
async def test_engine_pools_as_the_file_declares_and_reads_long_texts(bundled_model: Path, tmp_path: Path) -> None:
    text, found = "a fox and a river " * 60, {}
    for kind in (MEAN, LAST):
        own = tmp_path / f"own{kind}.gguf"
        with_pooling(bundled_model, own, kind)
        yaml = f"providers: {{ local: {{ model: '{own}', slots: 1 }} }}\nmodels: {{ m: local/any }}\n"
        async with live(yaml) as gateway, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=60) as client:
            await eventually(lambda gateway=gateway: gateway.gateway.generation.engines["local"].state == "ready", 60)  # type: ignore[misc]
            answer = await client.post(gateway.base_url + "/embeddings", json={"model": "m", "input": ["a fox", text]})
            assert answer.status_code == 200, answer.text
            found[kind] = answer.json()
    for answer_of in found.values():
        assert answer_of["model"] == "m"
        assert answer_of["usage"]["prompt_tokens"] > 300
    first = {kind: answer["data"][0]["embedding"] for kind, answer in found.items()}
    assert cosine(first[MEAN], first[LAST]) < 0.99


def cosine(one: list[Any], other: list[Any]) -> float:
    """Return the cosine of two vectors."""
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return float(dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other)))
