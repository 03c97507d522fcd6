"""The rules of one configuration: the paths that are passed, and their providers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.config.mcp import McpConfig
from gateway.config.passthrough import VERSION_PREFIX, PassthroughConfig
from gateway.config.provider import ProviderConfig
from gateway.config.types import Config
from gateway.passthrough.mcp_sessions import salt_of
from gateway.targets.backend import Backend
from gateway.upstream.transport import Origin

if TYPE_CHECKING:
    from gateway.upstream.native_transport import NativeTransport


MCP_METHODS = frozenset({"DELETE", "GET", "POST"})


class Rule(Struct, frozen=True):
    """One pattern and its destination."""

    pattern: str
    path: bytes
    """The pattern without `/*`."""
    is_tree: bool
    """Whether the paths below `path` match as well."""
    upstream: str
    """The path at the provider that replaces `path`. It includes the path of `base_url`."""
    methods: frozenset[str]
    max_body: int
    provider: ProviderConfig
    backend: Backend
    sockets: NativeTransport | None = None
    """Opens WebSocket connections; None if the pattern allows none."""
    websocket_idle: float = 0.0
    mcp: McpConfig | None = None
    """The MCP server, if the path is that of one."""
    mcp_salt: bytes = b""
    """The salt of `Sessions`, a part of the secret for the marks of the server's sessions and events."""

    @property
    def allows_websocket(self) -> bool:
        """Whether WebSocket connections are passed."""
        return self.sockets is not None

    @property
    def origin(self) -> Origin:
        """The server of the provider."""
        return self.backend.origin

    def matches(self, raw: bytes) -> bool:
        """Return whether a raw path matches the pattern."""
        return raw == self.path or (self.is_tree and raw.startswith(self.path + b"/"))


class Rules:
    """The rules of one configuration, the most specific first."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = sorted(rules, key=lambda rule: (len(rule.path), not rule.is_tree), reverse=True)

    def find(self, raw: bytes) -> Rule | None:
        """Return the rule with the longest pattern that matches a raw path, or None."""
        return next((rule for rule in self._rules if rule.matches(raw)), None)


def rules_of(
    config: Config, backend_of: Callable[[str, str], Backend], sockets: NativeTransport | None = None, mcp: Iterable[Rule] = ()
) -> Rules:
    """Return the rules of a configuration. `backend_of` returns the backend of a provider's model.

    `sockets` opens WebSocket connections. `mcp` are the rules of MCP servers.
    """
    passed = (
        _rule(entry, config.providers[entry.provider], backend_of(entry.provider, target_model(entry)), sockets)
        for entry in config.passthrough.values()
    )
    return Rules([*passed, *mcp])


def mcp_rules_of(config: Config, backend_of: Callable[[ProviderConfig, str], Backend]) -> list[Rule]:
    """Return the rules of the MCP servers. `backend_of` returns the backend of a provider's model."""
    salt = salt_of(config) if config.mcp else b""
    return [_mcp_rule(entry, entry.as_provider(), backend_of, salt) for entry in config.mcp.values()]


def _mcp_rule(
    entry: McpConfig, provider: ProviderConfig, backend_of: Callable[[ProviderConfig, str], Backend], salt: bytes
) -> Rule:
    backend = backend_of(provider, entry.name)
    upstream = urlsplit(backend.target.base_url).path
    return Rule(
        entry.pattern, entry.pattern.encode(), False, upstream, MCP_METHODS, entry.max_body, provider, backend, mcp=entry, mcp_salt=salt
    )


def target_model(entry: PassthroughConfig) -> str:
    """Return the pattern as the second part of a target's name, such as `v1/audio/*`."""
    return entry.name.removeprefix("/")


def _rule(
    entry: PassthroughConfig, provider: ProviderConfig, backend: Backend, sockets: NativeTransport | None
) -> Rule:
    path, is_tree = entry.name.removesuffix("/*"), entry.name.endswith("/*")
    appended = path.removeprefix(VERSION_PREFIX) if entry.path is None else entry.path.removesuffix("/*")
    base = urlsplit(backend.target.base_url).path.rstrip("/")
    methods = frozenset(entry.methods)
    opener = sockets if entry.websocket else None
    return Rule(
        entry.name, path.encode(), is_tree, base + appended, methods, entry.max_body, provider, backend, opener, entry.websocket_idle
    )
