"""The public keys of an issuer: a JSON Web Key Set (RFC 7517), with the algorithms of the signatures that each key may verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gateway.config.issuer import Algorithm

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

MAX_KEY_SET_BYTES = 256 << 10
MAX_KEYS = 100
RSA_BITS = range(2048, 8193)
"""Sizes of RSA keys that are accepted. Larger ones would delay the event loop with every new token."""
MAX_EXPONENT = 1 << 32
_RSA: tuple[Algorithm, ...] = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: dict[Any, Algorithm] = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA", "Ed448": "EdDSA"}


class SigningKey(msgspec.Struct, frozen=True, eq=False):
    """A public key, and the algorithms of the signatures that it may verify."""

    id: str | None
    algorithms: frozenset[str]
    key: PublicKey


class KeySet:
    """The public keys of an issuer, by key id."""

    def __init__(self, keys: list[SigningKey]) -> None:
        self._keys = keys
        self._by_id: dict[str, list[SigningKey]] = {}
        for key in keys:
            if key.id is not None:
                self._by_id.setdefault(key.id, []).append(key)

    def find(self, id: str | None, algorithm: str) -> list[SigningKey]:
        """Return the keys with this id that may verify signatures with this algorithm.

        A token without a key id may be signed with any key.
        """
        return [key for key in (self._keys if id is None else self._by_id.get(id, ())) if algorithm in key.algorithms]

    def has_id(self, id: str | None) -> bool:
        """Return whether there is a key with this id."""
        return id in self._by_id


def read_key_set(text: str | bytes) -> KeySet:
    """Return the keys of a JSON Web Key Set. If it is invalid or no key can verify signatures, raise ValueError with the reason.

    Keys of other kinds and for other purposes are skipped, as RFC 7517 requires. A private key for signatures is an error.
    """
    if len(text) > MAX_KEY_SET_BYTES:
        raise ValueError(f"the key set exceeds {MAX_KEY_SET_BYTES} bytes")
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("it is not valid JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is not a JSON Web Key Set: expected an object with the list 'keys'")
    if len(entries) > MAX_KEYS:
        raise ValueError(f"it has {len(entries)} keys; at most {MAX_KEYS} are allowed")
    keys = [key for entry in entries if isinstance(entry, dict) and (key := _read_key(entry)) is not None]
    if not keys:
        raise ValueError("it has no public key that can verify signatures (RSA, EC, Ed25519 or Ed448)")
    return KeySet(keys)


def _read_key(entry: dict[str, Any]) -> SigningKey | None:
    """Return one key, or None if it cannot verify signatures."""
    algorithms = _algorithms_of(entry)
    if not algorithms:
        return None
    if "d" in entry:
        raise ValueError("it contains a private key: publish only the public parts, and replace this key")
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
    from jwt.exceptions import PyJWTError

    readers: dict[Any, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
    try:
        key = readers[entry["kty"]].from_jwk(entry)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if entry["kty"] == "RSA" and (key.key_size not in RSA_BITS or key.public_numbers().e >= MAX_EXPONENT):
        return None
    id = entry.get("kid")
    return SigningKey(id if isinstance(id, str) else None, algorithms, key)


def _algorithms_of(entry: dict[str, Any]) -> frozenset[str]:
    """Return the algorithms of the signatures that a key may verify: those of its type, or the one of them that it names."""
    kind, named, purposes = entry.get("kty"), entry.get("alg"), entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(purposes, list) or "verify" not in purposes:
        return frozenset()
    fitting: tuple[str, ...] = ()
    if kind == "RSA":
        fitting = _RSA
    elif kind in ("EC", "OKP") and isinstance(curve := entry.get("crv"), str) and curve in _CURVES:
        fitting = (_CURVES[curve],)
    return frozenset(fitting if named is None else [name for name in fitting if name == named])
