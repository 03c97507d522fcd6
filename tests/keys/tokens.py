"""A gateway's side of signed tokens without a network: issuers whose key sets are given, and the tokens that are accepted."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from gateway.config.issuer import IssuerConfig
from gateway.config.key import TeamConfig
from gateway.config.types import Config
from gateway.keys.from_config import virtual_key
from gateway.keys.issuer_keys import IssuerKeys
from gateway.keys.token_callers import TokenCallers
from gateway.keys.virtual_key import VirtualKey
from tests.support.issuer import AUDIENCE, TokenIssuer

URL = "https://login.example.com"


async def no_fetch(issuer: IssuerConfig, url: str, limit: int) -> bytes:
    """Fail: the key sets of these issuers are given."""
    raise AssertionError(url)


def staff(*keys: tuple[str, str]) -> TokenIssuer:
    """Return an issuer that signs with keys, given by id and algorithm, but serves nothing."""
    issuer = TokenIssuer()
    issuer.url = URL
    for id, algorithm in keys or (("k1", "ES256"),):
        issuer.add_key(id, algorithm)
    return issuer


class Accepting:
    """Authenticates tokens under a configuration with one issuer."""

    def __init__(self, issuer: TokenIssuer, teams: tuple[str, ...] = (), **settings: Any) -> None:
        config = IssuerConfig("staff", URL, (AUDIENCE,), key_set=issuer.keys(), **settings)
        self.source = IssuerKeys(config, no_fetch, None, lambda line: None)
        self.now: float | None = None
        """The time on the clock of `callers`, or None for the real time."""
        known = {name: TeamConfig(name) for name in teams}
        self.callers = TokenCallers(Config(issuers={"staff": config}, teams=known), {"staff": self.source}, virtual_key, self._clock)

    def _clock(self) -> float:
        return time.time() if self.now is None else self.now

    def __call__(self, token: str | bytes) -> VirtualKey:
        """Authenticate a token."""
        text = token.encode() if isinstance(token, str) else token
        return self.callers.authenticate(text, hashlib.sha256(text).digest())
