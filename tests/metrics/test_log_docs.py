"""docs/log.md names every field of a record."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_field_of_a_record_is_explained() -> None:
    (record,) = [
        node
        for node in ast.parse((ROOT / "gateway" / "telemetry" / "call_log.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "record"
    ]
    keys = {node.slice.value for node in ast.walk(record) if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)}
    keys |= {key.value for node in ast.walk(record) if isinstance(node, ast.Dict) for key in node.keys if isinstance(key, ast.Constant)}
    assert len(keys) > 20
    rows = [line.split(" | ")[0] for line in (ROOT / "docs" / "log.md").read_text().splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)} | {"estimated"}
    assert keys - named == set()
