"""Formats of single values: durations, sizes, addresses, URLs, hashes, dates. Each has a reader and a JSON Schema."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.config.limit import RATE_PATTERN, SPEND_PATTERN, HedgeDelay, read_rate, read_spend, read_timezone
from gateway.config.redis_address import read_address
from gateway.config.secret import Secret, Url

Schema = dict[str, Any]

VARIABLE = r".*\$\{.+\}.*"  # in a JSON Schema: text with variables, whose value is not known yet

MAX_DURATION_S = 24 * 3600.0
MAX_LIFETIME_DAYS = 365
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = rf"(?:{_NUMBER}(?:ms|s|m|h))+"
_SIZE = rf"{_NUMBER} ?(?:B|kB|KB|MB|GB|KiB|MiB|GiB)"
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?"
_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]@]+)"
_GUESSABLE = (
    "", "changeme", "change-me", "change_me", "changeit", "secret", "password", "passw0rd", "admin", "admin123", "root", "test", "test-key",
    "demo", "dev", "key", "token", "apikey", "api-key", "api_key", "your-api-key", "your-key", "YOUR-KEY", "YOUR_API_KEY", "unused", "none",
    "null", "undefined", "default", "master", "master-key", "letmein", "qwerty", "1234", "12345678", "123456", "sk-1234", "sk-12345",
    "sk-123456", "sk-test", "sk-master", "sk-admin", "sk-", "lg-", "lg-test", "lockgate", "gateway", "Bearer", "EMPTY", "x", "foo", "\n",
)  # fmt: skip
_GUESSABLE_DIGESTS = {hashlib.sha256(word.encode()).hexdigest(): word for word in _GUESSABLE}
HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}"
TAG = r"[A-Za-z0-9][A-Za-z0-9._:/=-]{0,63}"
UNFORWARDABLE = frozenset({
    "accept", "accept-encoding", "api-key", "authorization", "connection", "cookie", "cookie2", "expect", "forwarded", "host",
    "keep-alive", "ocp-apim-subscription-key", "origin", "proxy-authorization", "referer", "set-cookie", "te", "trailer",
    "transfer-encoding", "upgrade", "user-agent", "via", "x-amz-security-token", "x-api-key", "x-auth-token", "x-goog-api-key",
})  # fmt: skip
"""Headers that no setting forwards: those of the connection, of the client and of the gateway, and the credentials of callers."""
UNFORWARDABLE_PREFIXES = ("content-", "proxy-", "x-forwarded-", "x-gateway-")
OPERATION_PATHS = ("/chat/completions", "/completions", "/embeddings", "/models", "/messages", "/responses", "/rerank")


class Address(msgspec.Struct, frozen=True):
    """Host and port of a listener."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Format(msgspec.Struct, frozen=True):
    """One format: its reader, which raises ValueError with the expected form, and its JSON Schema."""

    read: Callable[[str], Any]
    schema: Schema
    may_hold_secret: bool = False
    """Whether the text may contain a credential, so that messages must not repeat it."""
    allows_file: bool = False
    """Whether the value may also be written as file:PATH."""


def read_duration(text: str) -> float:
    """Read a duration such as `500ms`, `60s`, `2m` or `1h30m`, in seconds."""
    if not re.fullmatch(_DURATION, text):
        unit = " (add a unit)" if re.fullmatch(_NUMBER, text) else ""
        raise ValueError(f"expected a duration such as 500ms, 60s or 2m{unit}")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(rf"({_NUMBER})(ms|s|m|h)", text))
    if not 0 < seconds <= MAX_DURATION_S:
        raise ValueError("a duration must be more than 0 and at most 24h")
    return seconds


def read_share(text: str) -> float:
    """Read a percentage such as `10%`, as a number greater than 0 and at most 1."""
    match = re.fullmatch(rf"({_NUMBER})\s?%", text)
    if match is None or not 0 < float(match[1]) <= 100:
        raise ValueError("expected a percentage such as 10%, more than 0% and at most 100%")
    return float(match[1]) / 100


def read_pause(text: str) -> float:
    """Read a duration that may be 0, in seconds."""
    return 0.0 if re.fullmatch(r"0(?:ms|s|m|h)?", text) else read_duration(text)


def read_lifetime(text: str) -> float:
    """Read a whole number of days such as `30d`, or a duration, in seconds."""
    match = re.fullmatch(r"([0-9]{1,3})d", text)
    if match is not None and 0 < int(match[1]) <= MAX_LIFETIME_DAYS:
        return int(match[1]) * MAX_DURATION_S
    try:
        return read_duration(text)
    except ValueError:
        raise ValueError("expected days such as 30d, at most 365d, or a duration such as 12h") from None


def read_hedge_delay(text: str) -> HedgeDelay:
    """Read a duration, or a percentile from p50 to p99.9."""
    match = re.fullmatch(r"p(\d{1,2}(?:\.\d)?)", text)
    if match is None:
        try:
            return HedgeDelay(seconds=read_duration(text))
        except ValueError:
            raise ValueError("expected a duration such as 800ms, or a percentile such as p95") from None
    if not 50 <= float(match[1]) <= 99.9:
        raise ValueError("a percentile must be between p50 and p99.9")
    return HedgeDelay(share=float(match[1]) / 100)


def read_size(text: str) -> int:
    """Read a size such as `32MiB`, `64 KiB`, `10MB` or `1000`, in bytes."""
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    match = re.fullmatch(rf"({_NUMBER}) ?(B|kB|KB|MB|GB|KiB|MiB|GiB)", text)
    if match is None or len(text) > 20:
        raise ValueError("expected a size such as 32MiB, 512KiB or 10MB")
    return int(float(match[1]) * _BYTES[match[2]])


def read_listen_address(text: str) -> Address:
    """Read HOST:PORT. IPv6 hosts are written in brackets."""
    match = re.fullmatch(rf"({_HOST}):([0-9]{{1,5}})", text)
    if match is None or int(match[2]) > 65535:
        raise ValueError("expected HOST:PORT, for example 127.0.0.1:8080 (0.0.0.0:8080 for every interface)")
    host = match[1].strip("[]")
    if match[1].startswith("["):
        ip_address(host)
    return Address(host, int(match[2]))


def _url(text: str, schemes: tuple[str, ...], expected: str) -> Any:
    """Split a URL. If the URL is invalid, raise a ValueError that does not contain the URL, because a URL may contain a password."""
    try:
        parts = urlsplit(text)
        is_valid = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_valid = False
    if not is_valid or not text.isprintable() or " " in text:
        raise ValueError(f"expected {expected}")
    return parts


def read_base_url(text: str) -> str:
    """Read the part of a URL before the path of an operation, without a trailing slash."""
    parts = _url(text, ("http", "https"), "a URL such as https://api.example.com/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL contains a credential: use api_key instead")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("a base URL must not contain '?' or '#'")
    bare = text.rstrip("/")
    for operation in OPERATION_PATHS:
        if parts.path.rstrip("/").endswith(operation):
            raise ValueError(f"a base URL ends before the operation's path: remove '{operation}'")
    return bare


def read_webhook(text: str) -> Secret:
    """Read the URL of a webhook, which may contain a credential."""
    parts = _url(text, ("http", "https"), "the URL of a webhook, such as https://hooks.example.com/services/1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL contains a user or password: use headers instead")
    return Secret(text.partition("#")[0])


def read_proxy(text: str) -> Url:
    """Read `env`, or the URL of a proxy."""
    if text != "env":
        _url(text, ("http", "https", "socks5", "socks5h"), "'env' or the URL of a proxy, for example http://proxy:3128")
    return Url(text)


def read_store(text: str) -> Url:
    """Read the URL of a store: memory:// or a Redis URL."""
    if text == "memory://":
        return Url(text)
    if text.startswith("unix:") or not text.isprintable() or " " in text:
        raise ValueError(
            "expected memory:// or a Redis URL (redis://, rediss://, redis+sentinel:// or redis+cluster://)"
        )
    address = read_address(text)
    for host, port in address.nodes or ((address.host, address.port),):
        if not re.fullmatch(rf"(?:{_HOST}|[0-9A-Fa-f:.%]+)", host) or not 0 < port < 65536:
            raise ValueError("expected HOST:PORT of a Redis server, for example redis://redis:6379/0")
    return Url(text)


def read_journal(text: str) -> str:
    """Read a folder, or `off`."""
    if not text.strip() or not text.isprintable():
        raise ValueError("expected a folder, or off")
    return text


def read_https_url(text: str) -> str:
    """Read an https URL. On loopback, http is accepted as well."""
    parts = _url(text, ("http", "https"), "a URL such as https://login.example.com/jwks.json")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL contains a credential: remove it")
    if parts.scheme == "http" and not Address(parts.hostname, 0).is_loopback:
        raise ValueError("keys that are sent over http could be replaced in transit: use https")
    return text


def read_text(text: str) -> str:
    """Read a text without line breaks or control characters."""
    if not text or not text.isprintable():
        raise ValueError("expected printable text of at least one character")
    return text


def read_host(text: str) -> str:
    """Read a host name or address without a port, in lower case."""
    if not re.fullmatch(_NAME, text):
        try:
            ip_address(text)
        except ValueError:
            raise ValueError("expected a host name without a port, for example gateway.internal") from None
    return text.lower()


def read_origin(text: str) -> str:
    """Read the origin of a web page, or `*`."""
    if text == "*":
        return text
    parts = _url(text, ("http", "https"), "an origin such as https://app.example.com, or '*'")
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("an origin has only a scheme, a host and a port: write https://app.example.com")
    return text.lower()


def read_tag(text: str) -> str:
    """Read the name of a tag."""
    if not re.fullmatch(TAG, text):
        raise ValueError("expected a tag of at most 64 letters, digits and . _ : / = -, beginning with a letter or digit, such as team/web")
    return text


def read_header_name(text: str) -> str:
    """Read the name of a request header that may be forwarded, in lower case. Headers with credentials are rejected."""
    name = text.lower()
    if not re.fullmatch(HEADER_NAME, text):
        raise ValueError("expected the name of a header, for example x-tenant")
    if name in UNFORWARDABLE or name.startswith(UNFORWARDABLE_PREFIXES):
        raise ValueError("this header cannot be forwarded: it belongs to the connection, to the body or to the gateway, or is a credential")
    return name


def read_network(text: str) -> str:
    """Read an IP address or network such as 10.0.0.0/8."""
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise ValueError("expected an IP address or network such as 10.0.0.0/8") from None


def read_key_hash(text: str) -> str:
    """Read `sha256:` and the hexadecimal digest of a key."""
    digest = text[7:].lower()
    if len(text) != 71 or not text.startswith("sha256:") or digest.strip("0123456789abcdef"):
        raise ValueError('expected sha256: and 64 hexadecimal digits, the output of: printf %s "$KEY" | sha256sum')
    if digest in _GUESSABLE_DIGESTS:
        raise ValueError("this is the hash of a well-known key: generate a key with openssl rand -hex 32")
    return f"sha256:{digest}"


def read_expires(text: str) -> datetime:
    """Read the expiry of a key: a time (UTC by default), or a date, on which the key is still valid."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), UTC)
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("expected a date such as 2027-01-31 or a time such as 2027-01-31T12:00:00Z") from None


def _text(pattern: str, *examples: str) -> Schema:
    return {"type": "string", "pattern": f"^(?:{pattern}|{VARIABLE})$", "examples": list(examples)}


_SECRET: Schema = {
    "type": "string",
    "pattern": r"\$\{|^file:",
    "examples": ["${OPENAI_API_KEY}", "file:/run/secrets/openai"],
}

FORMATS: dict[str, Format] = {
    "duration": Format(read_duration, _text(_DURATION, "60s", "500ms")),
    "after": Format(read_hedge_delay, _text(rf"{_DURATION}|p\d{{2}}(?:\.\d)?", "p95", "800ms")),
    "share": Format(read_share, _text(rf"{_NUMBER} ?%", "10%")),
    "pause": Format(read_pause, _text(rf"0|{_DURATION}", "5s", "0s")),
    "lifetime": Format(read_lifetime, _text(rf"\d{{1,3}}d|{_DURATION}", "30d", "12h")),
    "size": Format(read_size, {"anyOf": [{"type": "integer", "minimum": 0}, _text(rf"{_SIZE}|\d+", "32MiB")]}),
    "address": Format(read_listen_address, _text(rf"{_HOST}:\d{{1,5}}", "127.0.0.1:8080")),
    "base_url": Format(read_base_url, _text(r"https?://[^\s?#]+", "https://api.example.com/v1"), may_hold_secret=True),
    "webhook": Format(
        read_webhook, _text(r"https?://\S+|file:\S+", "https://hooks.example.com/services/1"), may_hold_secret=True, allows_file=True
    ),
    "proxy": Format(read_proxy, _text(r"env|(?:https?|socks5h?)://\S+", "env", "http://proxy:3128"), may_hold_secret=True),
    "store": Format(
        read_store,
        _text(r"memory://|rediss?(?:\+(?:sentinel|cluster))?://\S+|file:\S+", "redis://redis:6379/0"),
        may_hold_secret=True,
        allows_file=True,
    ),
    "journal": Format(read_journal, {"type": "string", "minLength": 1, "examples": ["off", "/var/lib/lockgate"]}),
    "https_url": Format(read_https_url, _text(r"https?://[^\s#]+", "https://login.example.com/jwks.json"), may_hold_secret=True),
    "text": Format(read_text, {"type": "string", "minLength": 1, "examples": ["lockgate"]}),
    "claim_value": Format(
        read_text, {"type": ["string", "boolean", "integer"], "minLength": 1, "examples": ["example.com", True]}
    ),
    "host": Format(read_host, _text(rf"{_NAME}|[0-9A-Fa-f:.]+", "gateway.internal")),
    "origin": Format(read_origin, _text(r"\*|https?://[^\s/?#]+", "https://app.example.com")),
    "network": Format(read_network, _text(r"[0-9A-Fa-f:.]+(?:/\d{1,3})?", "10.0.0.0/8")),
    "tag": Format(read_tag, _text(TAG, "search")),
    "header_name": Format(read_header_name, _text(HEADER_NAME, "x-tenant")),
    "key_hash": Format(
        read_key_hash,
        _text(r"sha256:[0-9a-fA-F]{64}|file:\S+", "sha256:" + "0" * 64),
        may_hold_secret=True,
        allows_file=True,
    ),
    "rate": Format(read_rate, _text(RATE_PATTERN, "600/min", "200k/min")),
    "spend": Format(read_spend, _text(SPEND_PATTERN, "50 USD/month")),
    "timezone": Format(read_timezone, _text(r"[A-Za-z0-9+_-]+(?:/[A-Za-z0-9+_-]+)*", "Europe/Berlin")),
    "expires": Format(read_expires, _text(r"\d{4}-\d\d-\d\d(?:[T ].+)?", "2027-01-31")),
}
"""Formats that are read from the text alone. Secrets, headers and paths are read in read.py, routes in route.py."""

SECRET_SCHEMA: Schema = {"anyOf": [_SECRET, {"type": "array", "items": _SECRET, "minItems": 1}]}
HEADER_SCHEMA: Schema = {"type": "string"}
PATH_SCHEMA: Schema = {"type": "string", "minLength": 1}
