"""Run-time keys as they are stored: keys of older versions are read, and new keys are written so that older versions can read them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.config.key import KeyConfig, ModelAccess
from gateway.config.limit import LimitsConfig, Rate
from gateway.keys.store import RuntimeKey
from gateway.keys.stored_key import KEYS, decode_entry, encode_entry
from tests.support.each import each

HASH = "sha256:" + "ab" * 32
OLD_BLOCK = {
    "requests": {"amount": 5, "window": "min"}, "tokens": None, "prompt_tokens": None, "output_tokens": None, "concurrent": 3,
    "spend": {"amount": 7, "window": "month"}, "outage": "open", "strict": True,
}  # fmt: skip
OLD = {
    "entry": {
        "name": "k", "hash": HASH, "models": ["m"], "passthrough": None, "team": "t", "disabled": False, "expires": None, "strict": None,
        "limits": OLD_BLOCK, "limits_per_user": {**OLD_BLOCK, "requests": None},
    },
    "shown": "lg-abc...wxyz", "created": 17.5,
}  # fmt: skip


def test_a_key_of_an_older_version_is_read() -> None:
    key = decode_entry(msgspec.json.encode(OLD), KEYS)
    assert key.entry.limits == LimitsConfig((Rate(5, "min"),), concurrent=3, spend=(Rate(7, "month"),), outage="open", strict=True)
    assert key.entry.limits_per_user.requests == ()
    assert (key.entry.models, key.entry.team, key.shown, key.created) == (("m",), "t", "lg-abc...wxyz", 17.5)


def test_a_key_that_an_older_version_knows_is_written_as_it_did() -> None:
    written = msgspec.json.decode(encode_entry(decode_entry(msgspec.json.encode(OLD), KEYS)))
    for name in ("limits", "limits_per_user"):
        old: Any = OLD["entry"]
        assert {kind: written["entry"][name][kind] for kind in OLD_BLOCK} == old[name]


@each(
    "entry",
    [
        KeyConfig("k", HASH),
        KeyConfig("k", HASH, models={"m": ModelAccess(LimitsConfig(requests=(Rate(1, "s"),))), "n*": ModelAccess()}),
        KeyConfig("k", HASH, models=("a", "b*"), limits=LimitsConfig(requests=(Rate(1, "s"), Rate(9, "min")), timezone="Asia/Tokyo")),
        KeyConfig("k", HASH, limits_per_user=LimitsConfig(spend=(Rate(1, "day"), Rate(5, "total")), tokens=(Rate(2, "h"),))),
    ],
)
def test_a_key_is_read_as_it_was_written(entry: KeyConfig) -> None:
    key = RuntimeKey(entry, "shown", 1.0)
    assert decode_entry(encode_entry(key), KEYS) == key


@each("text", [b"{", b"[]", b"null", b'{"entry": 1}', b'{"entry": {"limits": {"requests": 5}}}', b'{"entry": {"limits": 3}}'])
def test_an_invalid_key_is_an_error(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_entry(text, KEYS)
