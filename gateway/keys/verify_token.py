"""Verifies signed tokens (JWT, RFC 7519) with the public keys of their issuer.

The algorithm must be allowed by the configuration and must fit the key (RFC 8725, 3.1). Headers that name or
contain keys (`jku`, `jwk`, `x5u`, `x5c`) are ignored: a key comes only from the issuer's own set.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.config.issuer import IssuerConfig
from gateway.config.key_set import SigningKey
from gateway.errors import InvalidToken

if TYPE_CHECKING:
    from jwt import PyJWT

MAX_TOKEN_BYTES = 8192
MAX_TIME = 253402300799
"""The last second of the year 9999. Later times in tokens count as this one."""
REQUIRED = ["exp", "iss", "aud"]


class UnverifiedToken(msgspec.Struct, frozen=True):
    """A token as it was sent. None of its content can be trusted before it is verified."""

    text: bytes
    algorithm: str
    key_id: str | None
    issuer: str
    claims: dict[str, Any]


def read_token(token: bytes) -> UnverifiedToken:
    """Return the parsed token without verifying it. Raise InvalidToken if the token is malformed."""
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken(f"The token has {len(token)} bytes; at most {MAX_TOKEN_BYTES} are accepted. Request a token with fewer claims.")
    header_part, payload_part, _ = token.split(b".")
    header, claims = _read_part(header_part, "header"), _read_part(payload_part, "payload")
    algorithm, key_id, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None):
        raise InvalidToken("The token's header must contain the string 'alg'; 'kid', if present, must be a string.")
    if "crit" in header or "b64" in header:
        raise InvalidToken("The token's header requires an extension ('crit' or 'b64') that is not supported.")
    if not isinstance(issuer, str):
        raise InvalidToken("The token names no issuer ('iss').")
    return UnverifiedToken(token, algorithm, key_id, issuer, claims)


def verify(token: UnverifiedToken, issuer: IssuerConfig, key: SigningKey, decoder: PyJWT) -> tuple[dict[str, Any], float]:
    """Return the claims of a token and the Unix time of its expiry, without the leeway and at most MAX_TIME.

    Raise InvalidToken if the token is not valid.
    """
    from jwt import exceptions

    try:
        claims = decoder.decode(
            token.text, key.key, algorithms=[token.algorithm], audience=issuer.audience, issuer=issuer.issuer, leeway=issuer.leeway,
            options={"require": REQUIRED},
        )  # fmt: skip
    except exceptions.ExpiredSignatureError:
        text = f"The token expired at {_moment(token.claims.get('exp'))}. Request a new one from its issuer."
        raise InvalidToken(text, code="token_expired") from None
    except exceptions.ImmatureSignatureError:
        text = "The token is not valid yet ('nbf' or 'iat'). Check the clocks of its issuer and of the gateway, or try again later."
        raise InvalidToken(text) from None
    except exceptions.MissingRequiredClaimError as error:
        raise InvalidToken(f"The token lacks the claim '{error.claim}'. Request a token with this claim.") from None
    except exceptions.InvalidAudienceError:
        accepted = " or ".join(f"'{audience}'" for audience in issuer.audience)
        raise InvalidToken(f"The token is for another audience ('aud'). Request one for {accepted}.") from None
    except exceptions.InvalidSignatureError:
        raise InvalidToken("The token's signature is not valid. Request a new token from its issuer.") from None
    except exceptions.PyJWTError as error:
        # the texts of other errors may quote the token
        raise InvalidToken(f"The token is not valid ({type(error).__name__}). Request a new one from its issuer.") from None
    return claims, min(int(claims["exp"]), MAX_TIME)


def _read_part(part: bytes, name: str) -> dict[str, Any]:
    """Return a JSON object in base64url. Reject repeated names and NaN, which parsers read differently."""
    try:
        text = base64.b64decode(part.rstrip(b"=") + b"=" * (-len(part.rstrip(b"=")) % 4), b"-_", validate=True)
        found = json.loads(text.decode(), object_pairs_hook=_without_repetition, parse_constant=_reject)
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidToken(f"The token's {name} is not a JSON object in base64url, or it repeats a name.") from None
    if not isinstance(found, dict):
        raise InvalidToken(f"The token's {name} is not a JSON object.")
    return found


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _reject(constant: str) -> None:
    raise ValueError


def _moment(value: Any) -> str:
    return datetime.fromtimestamp(max(0, min(int(value), MAX_TIME)), UTC).isoformat().replace("+00:00", "Z")
