"""The plan of a path under `passthrough:`: the upstream address to which its calls would go. No call is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config.mcp import undeclared_server
from gateway.config.own_paths import own_path_in
from gateway.config.passthrough_check import example_entry, is_plain
from gateway.errors import NotFound
from gateway.passthrough.headers import CREDENTIALS
from gateway.passthrough.paths import check_path, upstream_path, without_credentials
from gateway.passthrough.rules import Rules
from gateway.upstream.request_head import authority


def plan_path(rules: Rules | None, path: str) -> dict[str, Any] | None:
    """Return the plan of a path, which may have a query. Return None for the name of a model, which does not begin with a slash.

    Raise NotFound if no pattern covers the path; the message of the error states how to declare the path. Raise BadRequest if
    a provider could read the path as one outside its pattern.
    """
    bare, _, query = path.partition("?")
    raw = bare.encode("ascii", "replace")
    rule = rules.find(raw) if rules is not None else None
    if rule is None:
        if path.startswith("/"):
            raise _undeclared(bare[:200])
        return None
    check_path(raw)
    kept, removed = without_credentials(query.encode("ascii", "replace"))
    target = rule.backend.target
    return {
        "path": path,
        "pattern": rule.pattern,
        "provider": rule.provider.name,
        "url": f"{rule.origin.scheme}://{authority(rule.origin)}{upstream_path(rule, raw, kept)}",
        "methods": sorted(rule.methods),
        "credential": [name for name, _ in target.kind.probe_headers(target) if name in CREDENTIALS],
        "removed": removed,
        "max_body": rule.max_body,
        "websocket": rule.allows_websocket,
    }


def _undeclared(path: str) -> NotFound:
    """Return the error for a path that no pattern covers."""
    if is_plain(path) and own_path_in(path) is not None:
        return NotFound(f"The gateway serves {path} itself: name the model instead of the path, as in lockgate route MODEL.")
    if server := undeclared_server(path):
        return NotFound(f"No pattern of passthrough covers {path}. {server}")
    example = example_entry(path)
    advice = "No pattern can cover it." if example is None else f"To pass it to a provider, declare it: passthrough: {{ {example} }}."
    return NotFound(f"No pattern of passthrough covers {path}. {advice}")


def path_text(plan: Mapping[str, Any]) -> str:
    """Return the plan of a path as text."""
    lines = [f"{plan['path']} -> {plan['provider']}, by '{plan['pattern']}' of passthrough", f"   {plan['url']}"]
    lines.append(f"   methods     {', '.join(plan['methods'])}")
    lines.append(f"   credential  {', '.join(plan['credential']) or 'none'}")
    if plan["removed"]:
        lines.append(f"   removed     {', '.join(plan['removed'])} from the query")
    lines.append(f"   body        at most {plan['max_body']:,} bytes")
    lines.append(f"   WebSocket   {'passed' if plan['websocket'] else 'rejected'}")
    return "\n".join(lines)
