"""An issuer of signed tokens: an HTTP server with its OpenID configuration and its public keys, and signatures with PyJWT."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from functools import cache
from typing import Any, Self
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.keys.token_callers import TokenCallers
from tests.support.listener import StreamServer

AUDIENCE = "lockgate"
_CURVES: dict[str, type[ec.EllipticCurve]] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


class LaterDatetime(datetime):
    """The clock of PyJWT, moved by `seconds`."""

    seconds = 0.0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Return the moved time."""
        return super().now(tz) + timedelta(seconds=cls.seconds)


def move_clock(monkeypatch: pytest.MonkeyPatch, callers: TokenCallers, seconds: float) -> None:
    """Let the verification of tokens, and the expiry of remembered tokens, use a later time."""
    monkeypatch.setattr(LaterDatetime, "seconds", seconds)
    monkeypatch.setattr("jwt.api_jwt.datetime", LaterDatetime)
    monkeypatch.setattr(callers, "_clock", lambda: time.time() + seconds)


def private_key(algorithm: str, number: int = 1, bits: int = 2048) -> Any:
    """Return a private key for an algorithm. Keys with another number differ."""
    return _generated(algorithm, number, bits)


@cache
def _generated(algorithm: str, number: int, bits: int) -> Any:
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm]())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def public_jwk(key: Any, id: str | None = None, **more: Any) -> dict[str, Any]:
    """Return the public part of a key as a JSON Web Key."""
    readers: dict[Any, Any] = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    reader = next((reader for kind, reader in readers.items() if isinstance(key, kind)), OKPAlgorithm)
    entry: dict[str, Any] = json.loads(reader.to_jwk(key.public_key()))
    entry.pop("key_ops", None)
    return {**entry, **({} if id is None else {"kid": id}), **more}


def key_set(*entries: Mapping[str, Any]) -> str:
    """Return a JSON Web Key Set."""
    return json.dumps({"keys": entries})


class TokenIssuer:
    """A server on loopback that publishes the keys with which `token` signs. It answers as a proxy as well."""

    def __init__(self) -> None:
        self.url = ""
        self.private: dict[str, tuple[str, Any]] = {}
        """The algorithm and the private key of each key that signs, by the id of the key."""
        self.published: str | None = None
        """The key set that is served in place of that of the keys."""
        self.configuration: str | None = None
        """The OpenID configuration that is served in place of the correct one."""
        self.requests: list[str] = []
        """The paths of all requests."""
        self.status = 200
        self.released = asyncio.Event()
        """Answers wait for this event, which is set at the start."""
        self.released.set()
        self._server: StreamServer | None = None

    async def __aenter__(self) -> TokenIssuer:
        await self.listen()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def listen(self) -> None:
        """Serve on a free port, or on the same port as before."""
        port = int(self.url.rsplit(":", 1)[1]) if self.url else 0
        self._server = StreamServer(self._serve, port)
        self.url = f"http://127.0.0.1:{self._server.port}"

    async def close(self) -> None:
        """Stop serving: connections are refused."""
        self.released.set()
        if self._server is not None:
            await self._server.close()
            self._server = None

    def add_key(self, id: str, algorithm: str = "ES256", number: int = 1) -> None:
        """Sign with this key from now on, and publish it."""
        self.private[id] = algorithm, private_key(algorithm, number)

    def token(self, id: str | None = None, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token that is signed with a key, by default the last one. A claim that is None is left out."""
        id = id if id is not None else list(self.private)[-1]
        algorithm, key = self.private[id]
        now = int(time.time())
        full = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600, **claims}
        present = {name: value for name, value in full.items() if value is not None}
        return jwt.encode(present, key, algorithm, {"kid": id, **(headers or {})})

    def settings(self, more: str = "", name: str = "staff") -> str:
        """Return the section `issuers` with this issuer."""
        own = f"issuer: '{self.url}', audience: {AUDIENCE}, "
        return f"issuers: {{ {name}: {{ {own}{more} }} }}\n"

    def keys(self) -> str:
        """Return the key set that is served."""
        return self.published or key_set(*(public_jwk(key, id) for id, (_, key) in self.private.items()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        self.requests.append(path)
        await self.released.wait()
        path = urlsplit(path).path  # a proxy gets the whole URL
        found = {
            "/.well-known/openid-configuration": self.configuration or json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}),
            "/keys": self.keys(),
        }.get(path)
        status, body = (self.status if found is not None else 404), (found or "").encode()
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()
