"""Which proxy the way to an upstream leads through: the one that is configured, or the environment's where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

FROM_ENVIRONMENT = "env"


def proxy_of(setting: str | None, url: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The proxy's URL for an upstream at `url`; None for a direct connection.

    `env` reads HTTPS_PROXY or HTTP_PROXY by the upstream's scheme, then ALL_PROXY, unless NO_PROXY names the host; each in lower case
    first, as curl does. HTTP_PROXY counts in lower case alone where a web server may have set it from a request (REQUEST_METHOD).
    """
    if setting != FROM_ENVIRONMENT:
        return setting
    parts = urlsplit(url)
    if _excepted(parts.hostname or "", parts.port, _value(environ, "no_proxy")):
        return None
    found = _value(environ, f"{parts.scheme}_proxy") or _value(environ, "all_proxy")
    return found if not found or "://" in found else f"http://{found}"


def _value(environ: Mapping[str, str], name: str) -> str | None:
    upper = "" if name == "http_proxy" and "REQUEST_METHOD" in environ else environ.get(name.upper(), "")
    return environ.get(name, upper).strip() or None


def _excepted(host: str, port: int | None, exceptions: str | None) -> bool:
    """Whether NO_PROXY names a host: itself, a domain it is in, a network, or `*`; with a port only that one."""
    for word in (exceptions or "").replace(",", " ").split():
        if word == "*" or _in_network(host, word):
            return True
        name, colon, number = word.rpartition(":")
        if colon and number.isdecimal() and "]" not in number and ":" not in name.strip("[]"):
            if port != int(number):
                continue
            word = name
        word = word.strip("[]").removeprefix("*").lstrip(".").lower()
        if word and (host == word or host.endswith("." + word)):
            return True
    return False


def _in_network(host: str, word: str) -> bool:
    try:
        return ip_address(host) in ip_network(word, strict=False)
    except ValueError:
        return False
