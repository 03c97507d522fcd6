"""Chooses the proxy for an upstream: the configured one, or that of the environment if the setting is `env`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

FROM_ENVIRONMENT = "env"


def proxy_of(setting: str | None, url: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the proxy's URL for an upstream at `url`, or None for a direct connection.

    With the setting `env`, it comes from HTTPS_PROXY or HTTP_PROXY, depending on the upstream's scheme, else from ALL_PROXY,
    unless NO_PROXY matches the host. As in curl, the lower-case variable takes precedence, and HTTP_PROXY is ignored if
    REQUEST_METHOD is set: a CGI server may have set HTTP_PROXY from a request header.
    """
    if setting != FROM_ENVIRONMENT:
        return setting
    parts = urlsplit(url)
    if _matches_no_proxy(parts.hostname or "", parts.port, _read_variable(environ, "no_proxy")):
        return None
    proxy = _read_variable(environ, f"{parts.scheme}_proxy") or _read_variable(environ, "all_proxy")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _read_variable(environ: Mapping[str, str], name: str) -> str | None:
    upper = "" if name == "http_proxy" and "REQUEST_METHOD" in environ else environ.get(name.upper(), "")
    return environ.get(name, upper).strip() or None


def _matches_no_proxy(host: str, port: int | None, exceptions: str | None) -> bool:
    """Return whether NO_PROXY contains `*`, the host's network, its name or a parent domain; names may have a port."""
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
