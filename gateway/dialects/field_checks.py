"""Checks the fields of a request with a table of checks, and refuses fields that only the configuration may set."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.dialects.described import Check
from gateway.errors import refuse
from providers.base import Body

FORBIDDEN_FIELDS = frozenset({
    "api_base", "base_url", "api_key", "api_type", "api_version", "extra_headers", "extra_query", "headers", "timeout",
    "user_config", "chat_template", "chat_template_file", "template", "proxy", "proxies", "credential", "credentials",
    "command", "module", "plugin_path", "file", "callback", "callback_url", "webhook_url",
})  # fmt: skip
"""Fields for addresses, credentials, commands, templates and files, which only the configuration may set."""
_REPEATED = frozenset({"tools", "functions", "response_format"})
"""Large fields that callers send again and again."""
MAX_ACCEPTED = 4_096
_accepted: set[tuple[object, ...]] = set()
"""The checks and the keys of the repeated fields that they have accepted."""


def check_fields(body: Body, checks: Mapping[str, Check]) -> None:
    """Check the fields of a body. Raise BadRequest for the first invalid or forbidden one."""
    repeated = body.has_any(_REPEATED)
    for name in body:
        check = checks.get(name)
        if check is not None:
            if repeated and name in _REPEATED and (key := body.key_of((name,))) is not None:
                _check_once(body, name, check, key)
                continue
            _check_field(body, name, check)
        elif name in FORBIDDEN_FIELDS:
            raise refuse(name, f"'{name}' can only be set in the configuration, not in a request.", "unsupported_parameter")


def _check_field(body: Body, name: str, check: Check) -> None:
    try:
        value = body.get(name)
    except msgspec.DecodeError as error:
        raise refuse(name, f"'{name}' contains a value that cannot be decoded: {error}.") from None
    if value is not None:
        check(name, value)


def _check_once(body: Body, name: str, check: Check, key: tuple[object, ...]) -> None:
    """Check a field, unless the same value has been accepted."""
    known = (check, *key)
    if known in _accepted:
        return
    _check_field(body, name, check)
    if len(_accepted) >= MAX_ACCEPTED:
        _accepted.clear()
    _accepted.add(known)
