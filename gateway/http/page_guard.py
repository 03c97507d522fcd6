"""Rejects requests from web pages of other sites on a listener that requires no key.

Any page can make its visitor's browser send requests to a port on the visitor's machine. A page whose host name resolves
to 127.0.0.1 (DNS rebinding) can even read the responses, but its requests still contain that name. Therefore only
loopback and configured names are accepted in `Host`, except on a listener that other machines can reach and for which no names
are configured. Requests that a browser marks as coming from another site are rejected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from gateway.config.types import Config
from gateway.http.rejection import Problem

FOREIGN_HOST: Problem = (
    403,
    "forbidden_host",
    "This listener requires no key and therefore accepts only loopback names and the names in 'hosts' in the Host header. "
    "Call it as localhost or 127.0.0.1, or add the name to 'hosts' in the configuration.",
)
CROSS_SITE: Problem = (
    403,
    "forbidden_origin",
    "This listener requires no key and therefore rejects requests from web pages of other sites. "
    "Add the page's origin to cors in the configuration, or require keys.",
)
SAME_SITE = frozenset({b"", b"none", b"same-origin", b"same-site"})
"""Values of Sec-Fetch-Site that do not indicate another site. `none`: the user entered the address."""
MAX_CACHED_HOSTS = 64
_NAME = re.compile(rb"(?:[a-z][a-z0-9+.-]*://)?(\[[0-9a-f:.]+\]|[^:/\[\]]*)(?::[0-9]*)?\Z")


class PageRules:
    """The hosts and origins that one listener without keys accepts."""

    def __init__(self, hosts: Iterable[str], origins: Iterable[str] = (), *, any_host: bool = False) -> None:
        """`hosts` are accepted in addition to loopback names. `origins` are the origins of web pages that may send requests (`*`: all).

        `any_host` accepts every Host, for a listener that other machines reach by unknown names.
        """
        self._hosts = frozenset(host.lower().encode() for host in hosts)
        self._origins = frozenset(origin.lower().encode() for origin in origins)
        self._any_host = any_host
        self._accepted: set[bytes] = set()
        """Values of Host that were accepted, ports included."""

    def check(self, host: bytes, origin: bytes, site: bytes) -> Problem | None:
        """Return the reason for rejecting a request, or None. `host`, `origin` and `site` (Sec-Fetch-Site) are b"" if not sent.

        Only HTTP/1.0 clients send no Host; browsers always send one.
        """
        if host not in self._accepted:
            if host and not self._any_host and not self._is_known(host.lower()):
                return FOREIGN_HOST
            if len(self._accepted) < MAX_CACHED_HOSTS:
                self._accepted.add(host)
        if origin:
            return None if self._is_own(origin.lower(), host.lower()) else CROSS_SITE
        return None if site in SAME_SITE else CROSS_SITE

    def check_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
        """Return the reason for rejecting a request with these headers, or None."""
        sent = dict(headers)
        return self.check(sent.get(b"host", b""), sent.get(b"origin", b""), sent.get(b"sec-fetch-site", b"").lower())

    def _is_own(self, origin: bytes, host: bytes) -> bool:
        """Return whether a page of this origin may call."""
        if origin in self._origins or b"*" in self._origins:
            return True
        return self._is_known(origin) or (_name_in(origin) or b"") == (_name_in(host) or host or origin)

    def _is_known(self, text: bytes) -> bool:
        """Return whether a Host or Origin has a loopback name or a configured one."""
        name = _name_in(text)
        return name is not None and (name in self._hosts or _is_loopback(name))


def page_rules(config: Config) -> PageRules | None:
    """Return the rules of the callers' listener, or None if the listener requires keys.

    The names of a listener that other machines can reach are unknown, so it accepts all names unless `hosts` is set.
    """
    if config.requires_keys:
        return None
    return PageRules(config.hosts, config.cors, any_host=not config.listen.is_loopback and not config.hosts)


class PageGuard:
    """Holds the rules of one listener, which a reload replaces. The rules are None if the listener requires keys."""

    __slots__ = ("rules",)

    def __init__(self, rules: PageRules | None = None) -> None:
        self.rules = rules


def _name_in(text: bytes) -> bytes | None:
    """Return the host name in a lower-case Host or Origin, without brackets, port and final dot."""
    match = _NAME.match(text)
    return match[1].strip(b"[]").removesuffix(b".") or None if match else None


def _is_loopback(name: bytes) -> bool:
    if name == b"localhost" or name.endswith(b".localhost"):
        return True
    try:
        return ip_address(name.decode("ascii")).is_loopback
    except ValueError:  # raised also for a name that is not ASCII
        return False
