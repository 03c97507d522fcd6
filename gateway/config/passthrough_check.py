"""Checks of `passthrough`.

Patterns and paths must be plain, no pattern may cover the gateway's own APIs, and each provider must be in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.config.mcp import MCP_PROVIDER, check_server
from gateway.config.own_paths import PREFIXES, covers, own_path_in
from gateway.config.passthrough import VERSION_PREFIX, PassthroughConfig
from gateway.config.problem import Problems, join, suggest
from gateway.config.types import Config

_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()+,;=:@-]+)*(?:/\*)?")
EXPECTED = (
    "expected a path such as /v1/audio/* or /v1/batches: plain characters without '%', '//' and the segments '.' and '..', "
    "and '*' only as its end '/*'"
)


def check_passthrough(config: Config, problems: Problems) -> None:
    """Refuse invalid patterns, patterns that cover the gateway's own APIs, and unknown providers."""
    for pattern, entry in config.passthrough.items():
        where = join("passthrough", pattern)
        _check_pattern(pattern, where, problems)
        _check_provider(config, entry, where, problems)
        _check_path(pattern, entry, where, problems)
        if not entry.methods:
            problems.add_at_path(f"{where}.methods", "expected at least one method")
        if entry.websocket:
            _check_websocket(entry, where, problems)


def check_mcp(config: Config, problems: Problems) -> None:
    """Refuse invalid MCP servers, a provider with their reserved name, and patterns of `passthrough` that cover their paths."""
    if config.mcp and MCP_PROVIDER in config.providers:
        problems.add_at_path(join("providers", MCP_PROVIDER), "this name is reserved for the servers under mcp: use another name")
    for entry in config.mcp.values():
        check_server(entry, problems)
        for pattern in config.passthrough:
            if covers(pattern, entry.pattern):
                problems.add_at_path(join("passthrough", pattern), f"covers {entry.pattern}, the path of an MCP server: use another path")


def check_allowed_patterns(config: Config, patterns: Iterable[str] | None, where: str, problems: Problems) -> None:
    """Refuse a pattern of a key or team that matches neither a pattern under `passthrough` nor the path of an MCP server."""
    known = [*config.passthrough, *(entry.pattern for entry in config.mcp.values())]
    for index, pattern in enumerate(patterns or ()):
        is_prefix = pattern.endswith("*") and any(name.startswith(pattern[:-1]) for name in known)
        if pattern not in known and not is_prefix:
            path = f"{where}.passthrough[{index}]"
            hint = suggest(pattern, known, "patterns")
            problems.add_at_path(path, f"no pattern {problems.source_text(path)} under passthrough{hint}")


def is_plain(path: str) -> bool:
    """Return whether a pattern or a path at a provider is valid."""
    segments = path.split("/")
    return bool(path) and path != "/" and _PATH.fullmatch(path) is not None and "." not in segments and ".." not in segments


def example_entry(path: str, *, websocket: bool = False) -> str | None:
    """Return an entry of `passthrough` that declares a path, or None if there can be no such entry.

    PROVIDER stands for a provider's name. With `websocket` the entry allows WebSocket connections.
    """
    if path in PREFIXES:
        return None
    prefix = max((known for known in PREFIXES if path.startswith(f"{known}/")), key=len, default="")
    rest = path[len(prefix) :]
    first = "/".join(rest.split("/")[:2])
    for below in (f"{first}/*", f"{rest}/*", rest):
        pattern = prefix + below
        if is_plain(pattern) and own_path_in(pattern) is None:
            upstream = "/*" if not prefix and below != rest else below
            settings = [] if prefix == VERSION_PREFIX else [f'path: "{upstream}"']
            settings += ["websocket: true"] if websocket else []
            return f'"{pattern}": ' + (f"{{ provider: PROVIDER, {', '.join(settings)} }}" if settings else "PROVIDER")
    return None


def _check_pattern(pattern: str, where: str, problems: Problems) -> None:
    if not is_plain(pattern):
        problems.add_at_path(where, EXPECTED)
    elif (own := own_path_in(pattern)) is not None:
        problems.add_at_path(where, f"covers {own}, which the gateway serves itself: declare a narrower path")


def _check_provider(config: Config, entry: PassthroughConfig, where: str, problems: Problems) -> None:
    provider = config.providers.get(entry.provider)
    if provider is None:
        path = f"{where}.provider" if problems.is_written(f"{where}.provider") else where
        problems.add_at_path(path, f"no provider '{entry.provider}' in this file{suggest(entry.provider, config.providers, 'providers')}")
    elif provider.type == "local":
        problems.add_at_path(where, "the local engine has no other paths: use another provider")


def _check_websocket(entry: PassthroughConfig, where: str, problems: Problems) -> None:
    if entry.methods and "GET" not in entry.methods:
        problems.add_at_path(f"{where}.methods", "a WebSocket connection begins with GET: add GET, or remove websocket")


def _check_path(pattern: str, entry: PassthroughConfig, where: str, problems: Problems) -> None:
    path = entry.path
    if path is None:
        if not pattern.startswith(f"{VERSION_PREFIX}/"):
            example = "/*" if pattern.endswith("/*") else pattern[pattern.rfind("/") :]
            problems.add_at_path(
                where, f"the pattern does not begin with {VERSION_PREFIX}/: set the path at the provider, for example path: {example}"
            )
    elif not is_plain(path):
        problems.add_at_path(f"{where}.path", EXPECTED)
    elif path.endswith("/*") != pattern.endswith("/*"):
        problems.add_at_path(f"{where}.path", "if the pattern or the path ends in '/*', both must")
