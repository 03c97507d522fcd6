"""Callers with a signed token (JWT) of an issuer: each caller has a virtual key whose name is ISSUER/SUBJECT.

A verified token is remembered by its digest until it expires, so that each further call with the token needs only one lookup. All
tokens of a caller share the limits and the usage of the virtual key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec

from gateway.config.issuer import key_of_policy
from gateway.config.key import KeyConfig, TeamConfig
from gateway.config.key_set import SigningKey
from gateway.config.types import Config
from gateway.errors import Forbidden, GatewayError, InvalidToken, Unavailable
from gateway.keys.issuer_keys import IssuerKeys
from gateway.keys.token_claims import TokenIdentity, read_identity
from gateway.keys.verify_token import UnverifiedToken, read_token, verify
from gateway.keys.virtual_key import KeyRejectedError, VirtualKey

MAX_REMEMBERED = 10_000
"""Maximum number of verified tokens that are remembered. Older tokens are verified again when they are next used."""


class SigningKeyUnknownError(Exception):
    """The key that signed a token is not known. It may be known after the issuer's keys have been fetched again.

    `refusal` is the error for the caller if the key remains unknown.
    """

    def __init__(self, source: IssuerKeys, refusal: GatewayError) -> None:
        super().__init__(str(refusal))
        self.source = source
        self.refusal = refusal


class _Verified(msgspec.Struct, frozen=True):
    """A verified token: its virtual key, and the version of the issuer's keys with which it was verified."""

    key: VirtualKey
    until: float
    source: IssuerKeys
    version: int


class TokenCallers:
    """Accepts the tokens of the issuers of one configuration."""

    def __init__(
        self,
        config: Config,
        sources: Mapping[str, IssuerKeys],
        virtual_key: Callable[[KeyConfig, Mapping[str, TeamConfig]], VirtualKey],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`sources` are the issuers' public keys by name. `virtual_key` builds a virtual key. `clock` returns the Unix time."""
        from jwt import PyJWT

        self._decoder = PyJWT()
        self._issuers = {issuer.issuer: (issuer, sources[name]) for name, issuer in config.issuers.items()}
        self._teams: Mapping[str, TeamConfig] = config.teams
        self._knows_all_teams = True
        self._virtual_key = virtual_key
        self._clock = clock
        self._verified: dict[bytes, _Verified] = {}

    def set_teams(self, teams: Mapping[str, TeamConfig], *, complete: bool) -> None:
        """Replace the teams. If `complete` is false, the teams that were created at run time are not known yet."""
        self._teams, self._knows_all_teams = teams, complete
        self._verified = {}

    def authenticate(self, token: bytes, digest: bytes) -> VirtualKey:
        """Return the virtual key of a token. `digest` is the SHA-256 digest of the token.

        Raise InvalidToken, Forbidden or Unavailable if the token is rejected, and SigningKeyUnknownError if the issuer's keys have
        to be fetched first.
        """
        known = self._verified.get(digest)
        if known is not None and known.until > self._clock() and known.version == known.source.version:
            return known.key
        given = read_token(token)
        issuer, source = self._issuers.get(given.issuer, (None, None))
        if issuer is None or source is None:
            raise InvalidToken("The token's issuer ('iss') is not accepted here. Ask the operator which issuer to use.")
        if given.algorithm not in issuer.algorithms:
            text = f"The token's algorithm is not accepted here. Accepted: {', '.join(issuer.algorithms)}."
            raise InvalidToken(text)
        claims, expires = verify(given, issuer, _signing_key(given, source), self._decoder)
        key = msgspec.structs.replace(self._key_of(read_identity(issuer, claims)), expires=expires)
        if key.disabled:
            text = f"The policy or the team of the caller '{key.name}' is disabled. Ask the operator for access."
            raise KeyRejectedError(text, key, code="key_disabled")
        self._verified.pop(digest, None)
        while len(self._verified) >= MAX_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = _Verified(key, expires + issuer.leeway, source, source.version)
        return key

    def _key_of(self, identity: TokenIdentity) -> VirtualKey:
        team = next((name for name in identity.teams if name in self._teams), None)
        if team is None and identity.teams:
            if not self._knows_all_teams:
                text = "The token's team cannot be checked: the store of teams is unavailable. Try again later."
                raise Unavailable(text, code="keys_unavailable", retry_after=1.0)
            text = "The token names no team of this gateway. Ask the operator to create its team, or to add it to 'teams'."
            raise Forbidden(text, code="team_unknown")
        key = self._virtual_key(key_of_policy(identity.policy, identity.name, team), self._teams)
        return msgspec.structs.replace(key, policy=identity.policy.name, end_user=identity.end_user, tags=identity.policy.tags)


def is_token(text: bytes) -> bool:
    """Return whether a credential has the form of a signed token: three parts, and the beginning of a JSON object in base64url."""
    return text.startswith(b"ey") and text.count(b".") == 2


def _signing_key(token: UnverifiedToken, source: IssuerKeys) -> SigningKey:
    """Return the signing key that fits the header of a token.

    Raise InvalidToken if the issuer's keys cannot verify the token, and SigningKeyUnknownError if they have to be fetched first.
    """
    keys = source.key_set
    if keys is None:
        raise SigningKeyUnknownError(source, _not_fetched())
    found = keys.find(token.key_id, token.algorithm)
    if token.key_id is None and len(found) > 1:
        raise InvalidToken("The token does not name the key that signed it ('kid'), and its issuer has several keys.")
    if found:
        return found[0]
    if keys.has_id(token.key_id):
        raise InvalidToken("The key that the token names does not support the token's algorithm.")
    unknown = InvalidToken("The token is signed with a key that its issuer does not list. Request a new token.")
    raise SigningKeyUnknownError(source, _not_fetched() if source.has_failed else unknown)


def _not_fetched() -> Unavailable:
    text = "The token cannot be verified: the keys of its issuer cannot be fetched now. Try again later."
    return Unavailable(text, code="keys_unavailable", retry_after=1.0)
