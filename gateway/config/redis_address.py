"""The address of a Redis store (one server, a master behind Sentinels, or a cluster) and its credentials."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from gateway.config.secret import Secret

DEFAULT_PORT, DEFAULT_SENTINEL_PORT = 6379, 26379
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


class RedisAddress(msgspec.Struct, frozen=True):
    """The address of a Redis store. `path` is a Unix socket; `nodes` are Sentinels, or some nodes of a cluster."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str = ""
    tls: bool = False
    user: str = ""
    password: str = ""
    database: int = 0
    kind: Literal["one", "sentinel", "cluster"] = "one"
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    """The name of the master at its Sentinels."""
    secret: Secret | None = None
    """The password from `store_password`, or from a URL that is kept in a file; `password` is then empty."""
    sentinel_secret: Secret | None = None
    """The password of the Sentinels, if they require one."""
    ca: str | None = None
    """PEM file with certificate authorities to trust in addition to those of the system."""

    def credentials(self) -> tuple[str, str]:
        """Return the user and the password. A password in a file is read again. Raise ValueError if the file is unusable."""
        return self.user, self.password if self.secret is None else self.secret.reread().reveal()

    def sentinel_credentials(self) -> tuple[str, str]:
        """Return the user and the password of the Sentinels, as `credentials` does."""
        return "", "" if self.sentinel_secret is None else self.sentinel_secret.reread().reveal()

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context, or None without TLS. Raise OSError or ssl.SSLError if `ca` is unusable."""
        if not self.tls:
            return None
        return _context(self.ca, Path(self.ca).stat().st_mtime_ns if self.ca is not None else 0)

    def for_server(self, host: str, port: int) -> RedisAddress:
        """Return the address of one server of this store."""
        return msgspec.structs.replace(self, host=host, port=port, kind="one", nodes=(), service="")

    def for_sentinel(self, node: tuple[str, int]) -> RedisAddress:
        """Return this address with a single Sentinel."""
        return msgspec.structs.replace(self, nodes=(node,))

    def __str__(self) -> str:
        if self.nodes:
            several = ",".join(f"{host}:{port}" for host, port in self.nodes)
            return f"{several} ({self.service})" if self.service else several
        return self.path or f"{self.host}:{self.port}"


@lru_cache(maxsize=4)  # loading the system's authorities is slow
def _context(ca: str | None, changed: int) -> ssl.SSLContext:
    """Return the TLS context for the file `ca`, last changed at `changed`: a changed file gets a new context."""
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(ca)
    return context


def read_address(url: str, secret: Secret | None = None, ca: str | None = None) -> RedisAddress:
    """Read a Redis URL. If the URL is invalid, raise a ValueError that does not contain the URL, because a URL may contain a password."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise ValueError(
            "expected memory:// or a Redis URL (redis://, rediss://, redis+sentinel:// or redis+cluster://)"
        )
    if scheme != "unix" and ("?" in rest or "#" in rest):
        raise ValueError("a Redis URL must not contain '?' or '#' (in a password, write %3F and %23)")
    base, _, kind = scheme.partition("+")
    login, _, where = rest.partition("/")[0].rpartition("@")
    path = rest.partition("/")[2].partition("?")[0] if scheme != "unix" else ""
    user, _, password = login.partition(":")
    if secret is not None and password:
        raise ValueError("the password is set twice, in the URL and as store_password: remove one")
    known = RedisAddress(tls=base == "rediss", user=unquote(user), password=unquote(password), secret=secret, ca=ca)
    if scheme == "unix":
        return _unix(url, known)
    if kind == "sentinel":
        service, _, database = path.partition("/")
        if not service:
            raise ValueError(
                "a Sentinel URL needs the name of the master: redis+sentinel://host:26379,host:26379/NAME/0"
            )
        return msgspec.structs.replace(
            known,
            kind="sentinel",
            nodes=_nodes(where, DEFAULT_SENTINEL_PORT),
            service=unquote(service),
            database=_database(database),
        )
    if kind == "cluster":
        if _database(path):
            raise ValueError("a Redis cluster has only one database: remove its number")
        return msgspec.structs.replace(known, kind="cluster", nodes=_nodes(where, DEFAULT_PORT))
    (host, port), *more = _nodes(where, DEFAULT_PORT)
    if more:
        raise ValueError("redis:// takes one address: use redis+sentinel:// or redis+cluster:// for several")
    return msgspec.structs.replace(known, host=host, port=port, database=_database(path))


def _unix(url: str, known: RedisAddress) -> RedisAddress:
    parts = urlsplit(url)
    login = unquote(parts.username or ""), unquote(parts.password or "")
    return msgspec.structs.replace(
        known,
        path=parts.path,
        user=login[0],
        password=login[1],
        database=_database(parse_qs(parts.query).get("db", ["0"])[0]),
    )


def _nodes(where: str, port: int) -> tuple[tuple[str, int], ...]:
    nodes: list[tuple[str, int]] = []
    for node in where.split(","):
        try:
            parts = urlsplit(f"//{node}")
            nodes.append((parts.hostname or "", port if parts.port is None else parts.port))
        except ValueError:
            raise ValueError("expected HOST:PORT, or several of them separated by commas") from None
        if not parts.hostname:
            raise ValueError("expected HOST:PORT, or several of them separated by commas")
    return tuple(nodes)


def _database(text: str) -> int:
    text = text.strip("/") or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise ValueError("the path of a Redis URL must be the number of a database, for example /0")
    return int(text)
