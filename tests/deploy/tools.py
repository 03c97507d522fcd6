"""Find the real validators: packages of requirements/tools.txt in .tools and of engines.txt in .engines, Debian programs on PATH."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = ROOT / ".tools"
ENGINES = ROOT / ".engines"
PYTHON = TOOLS / "bin" / "python"


def locked(name: str) -> str:
    """Return the path of a program of requirements/tools.txt."""
    path = TOOLS / "bin" / name
    assert path.exists(), f"{path} is missing: make install-tools"
    return str(path)


def compose() -> str:
    """Return the path of the real docker compose binary, because its package's script ignores the exit code."""
    program = sorted(TOOLS.glob("lib/python*/site-packages/compose/docker-compose"))
    assert program, "docker-compose is missing: make install-tools"
    return str(program[0])


def engine(name: str) -> str:
    """Return the path of a program of requirements/engines.txt."""
    path = ENGINES / "bin" / name
    assert path.exists(), f"{path} is missing: make install-tools"
    return str(path)


def debian(name: str) -> str:
    """Return the path of a Debian program, possibly in a folder that is only on root's PATH."""
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    assert program, f"{name} is missing: make install-tools, as root"
    return program


def run(*command: str | Path, env: Mapping[str, str] | None = None, stdin: str = "", cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program and return the completed process."""
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, timeout=120, check=False)
