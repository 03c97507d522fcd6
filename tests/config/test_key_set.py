"""JSON Web Key Sets: the keys that are used, their algorithms, and unusable sets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.config.issuer import ALGORITHMS
from gateway.config.key_set import MAX_KEY_SET_BYTES, KeySet, read_key_set
from tests.support.each import each
from tests.support.issuer import key_set, private_key, public_jwk

RSA_ALGORITHMS = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def algorithms(keys: KeySet, id: str | None) -> set[str]:
    """Return the algorithms that the key with an id may verify."""
    return {name for name in ALGORITHMS if keys.find(id, name)}


def jwk(algorithm: str, **more: Any) -> dict[str, Any]:
    """Return the public key of an algorithm, with the id `k`."""
    return public_jwk(private_key(algorithm), "k", **more)


@each(
    ("entry", "expected"),
    [
        (jwk("RS256"), RSA_ALGORITHMS),
        (jwk("RS256", alg="RS256"), {"RS256"}),
        (jwk("RS256", alg="PS512", use="sig"), {"PS512"}),
        (jwk("ES256"), {"ES256"}),
        (jwk("ES384", key_ops=["verify"]), {"ES384"}),
        (jwk("ES512"), {"ES512"}),
        (jwk("EdDSA"), {"EdDSA"}),
    ],
)
def test_a_key_verifies_the_algorithms_of_its_kind(entry: dict[str, Any], expected: set[str]) -> None:
    assert algorithms(read_key_set(key_set(entry)), "k") == expected


UNUSABLE_KEYS = [
    jwk("RS256", use="enc"), jwk("RS256", alg="RSA-OAEP"), jwk("RS256", alg="HS256"), jwk("RS256", n="AAAA"), jwk("RS256", e="AQAAAAE"),
    jwk("ES256", alg="ES384"), jwk("ES256", key_ops=["sign"]), jwk("ES256", key_ops="verify"), jwk("ES256", x="AAAA"),
    jwk("ES256", kty="oct"), jwk("ES256", crv="secp256k1"), jwk("ES256", crv=["P-256"]),
    {}, {"kty": ["RSA"]}, {"kty": "RSA", "kid": "k"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"},
    public_jwk(private_key("RS256", 1, 1024), "k"),
]  # fmt: skip


@each("entry", UNUSABLE_KEYS)
def test_a_key_for_another_purpose_is_skipped(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it has no public key that can verify signatures"):
        read_key_set(key_set(entry))
    keys = read_key_set(json.dumps({"keys": [entry, 7, None, "x", public_jwk(private_key("ES256"), "good")]}))
    assert (algorithms(keys, "k"), algorithms(keys, "good")) == (set(), {"ES256"})


@each(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("null", "not a JSON Web Key Set"),
        ('{"keys": {}}', "not a JSON Web Key Set"),
        ('{"keys": []}', "no public key"),
        ("[" * 100_000, "not valid JSON"),
        (" " * (MAX_KEY_SET_BYTES + 1), "exceeds"),
        (json.dumps({"keys": [{}] * 101}), "101 keys; at most 100"),
        (key_set(jwk("ES256", d="AAAA")), "private key"),
    ],
)
def test_an_unusable_set_is_refused_with_a_reason(text: str, reason: str) -> None:
    for given in (text, text.encode()):
        with pytest.raises(ValueError, match=reason):
            read_key_set(given)


def test_keys_are_found_by_id_and_algorithm() -> None:
    ec, rsa, edwards = public_jwk(private_key("ES256"), "a"), public_jwk(private_key("RS256"), "a"), public_jwk(private_key("EdDSA"))
    keys = read_key_set(key_set(ec, rsa, edwards, {**public_jwk(private_key("ES384")), "kid": 7}))
    assert [len(keys.find("a", name)) for name in ("ES256", "RS256", "EdDSA", "ES384")] == [1, 1, 0, 0]
    assert [len(keys.find(None, name)) for name in ("ES256", "RS256", "EdDSA", "ES384")] == [1, 1, 1, 1]
    assert keys.find("b", "ES256") == []
    assert [keys.has_id(id) for id in ("a", "b", None)] == [True, False, False]
