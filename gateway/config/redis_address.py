"""Where a Redis is: one server, a master that Sentinels name, or a cluster; and how to log in there."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from gateway.config.secret import Secret

PORT, SENTINEL_PORT = 6379, 26379
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


class RedisAddress(msgspec.Struct, frozen=True):
    """Where a Redis is and how to log in there. `path` is a unix socket; `nodes` are Sentinels, or some nodes of a cluster."""

    host: str = "127.0.0.1"
    port: int = PORT
    path: str = ""
    tls: bool = False
    user: str = ""
    password: str = ""
    database: int = 0
    kind: Literal["one", "sentinel", "cluster"] = "one"
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    """The name that the Sentinels know the master by."""
    secret: Secret | None = None
    """The password, when it is not part of the URL."""
    sentinel_secret: Secret | None = None
    """What Sentinels ask for, if they do."""
    ca: str | None = None
    """PEM file of an authority to trust besides the system's."""

    def credentials(self) -> tuple[str, str]:
        """User and password, read again when a file has the password; ValueError when that cannot be read."""
        return self.user, self.password if self.secret is None else self.secret.reread().reveal()

    def sentinel_credentials(self) -> tuple[str, str]:
        """The same for its Sentinels."""
        return "", "" if self.sentinel_secret is None else self.sentinel_secret.reread().reveal()

    def ssl_context(self) -> ssl.SSLContext | None:
        """What checks the server's certificate; None without TLS. OSError or ssl.SSLError when `ca` cannot be read."""
        if not self.tls:
            return None
        return _context(self.ca, Path(self.ca).stat().st_mtime_ns if self.ca is not None else 0)

    def for_server(self, host: str, port: int) -> RedisAddress:
        """One server of it."""
        return msgspec.structs.replace(self, host=host, port=port, kind="one", nodes=(), service="")

    def for_sentinel(self, node: tuple[str, int]) -> RedisAddress:
        """The same, with this Sentinel alone."""
        return msgspec.structs.replace(self, nodes=(node,))

    def __str__(self) -> str:
        if self.nodes:
            several = ",".join(f"{host}:{port}" for host, port in self.nodes)
            return f"{several} ({self.service})" if self.service else several
        return self.path or f"{self.host}:{self.port}"


@lru_cache(maxsize=4)
def _context(ca: str | None, changed: int) -> ssl.SSLContext:
    """Made once for each state of the file: it takes the time of many decisions."""
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(ca)
    return context


def read_address(url: str, secret: Secret | None = None, ca: str | None = None) -> RedisAddress:
    """The address of a store's URL; ValueError says what is wrong with it, and never repeats it: it may have a password."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise ValueError("expected memory:// or the URL of a Redis: redis://, rediss://, redis+sentinel:// or redis+cluster://")
    if scheme != "unix" and ("?" in rest or "#" in rest):
        raise ValueError("a Redis URL has no options after '?' or '#' (in a password they are %3F and %23)")
    base, _, kind = scheme.partition("+")
    login, _, where = rest.partition("/")[0].rpartition("@")
    path = rest.partition("/")[2].partition("?")[0] if scheme != "unix" else ""
    user, _, password = login.partition(":")
    if secret is not None and password:
        raise ValueError("the password is given twice, in the URL and as store_password")
    known = RedisAddress(tls=base == "rediss", user=unquote(user), password=unquote(password), secret=secret, ca=ca)
    if scheme == "unix":
        return _unix(url, known)
    if kind == "sentinel":
        service, _, database = path.partition("/")
        if not service:
            raise ValueError("a Sentinel URL names its master: redis+sentinel://host:26379,host:26379/NAME/0")
        return msgspec.structs.replace(
            known, kind="sentinel", nodes=_nodes(where, SENTINEL_PORT), service=unquote(service), database=_database(database)
        )
    if kind == "cluster":
        if _database(path):
            raise ValueError("a Redis cluster has one database only: leave its number out")
        return msgspec.structs.replace(known, kind="cluster", nodes=_nodes(where, PORT))
    (host, port), *more = _nodes(where, PORT)
    if more:
        raise ValueError("one server has one address; several belong to redis+sentinel:// or redis+cluster://")
    return msgspec.structs.replace(known, host=host, port=port, database=_database(path))


def _unix(url: str, known: RedisAddress) -> RedisAddress:
    parts = urlsplit(url)
    login = unquote(parts.username or ""), unquote(parts.password or "")
    return msgspec.structs.replace(
        known, path=parts.path, user=login[0], password=login[1], database=_database(parse_qs(parts.query).get("db", ["0"])[0])
    )


def _nodes(where: str, port: int) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for one in where.split(","):
        try:
            parts = urlsplit(f"//{one}")
            found.append((parts.hostname or "", port if parts.port is None else parts.port))
        except ValueError:
            raise ValueError("expected HOST:PORT, several separated by commas") from None
        if not parts.hostname:
            raise ValueError("expected HOST:PORT, several separated by commas")
    return tuple(found)


def _database(text: str) -> int:
    text = text.strip("/") or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise ValueError("a Redis URL ends in the number of a database, for example /0")
    return int(text)
