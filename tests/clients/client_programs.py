"""Runs the programs in `programs/`, each with the interpreter of the environment that has its package."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
MAIN_BIN, OPENAI_2_BIN, GOODFIRE_BIN = (ROOT / ".clients" / name / "bin" for name in ("main", "openai2", "goodfire"))


def run_program(name: str, interpreter: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a program and return the JSON object in its last line of output."""
    command = [str(interpreter), str(PROGRAMS / name)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert process.returncode == 0, f"{name}:\n{process.stdout}\n{process.stderr}"
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result
