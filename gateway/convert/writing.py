"""Writes YAML with comments: names and texts are quoted where YAML would read something else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def quoted(text: str) -> str:
    """Return a text as a YAML scalar."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text)


def inline(value: Any) -> str:
    """Return a value in YAML's flow style, in one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{quoted(str(key))}: {inline(each)}" for key, each in value.items()) + " }" if value else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(inline(each) for each in value) + "]"
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def section(name: str, comment: str, entries: Mapping[str, Any]) -> str:
    """Return a top-level section with one line for each entry, or an empty text if there are none."""
    if not entries:
        return ""
    lines = [f"  {quoted(key)}: {inline(value)}" for key, value in entries.items()]
    return "\n".join([f"{name}:  # {comment}", *lines, ""])
