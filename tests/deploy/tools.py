"""The real validators: those of requirements/tools.txt in .tools, those of Debian on PATH; a missing one is named."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = ROOT / ".tools"
PYTHON = TOOLS / "bin" / "python"


def locked(name: str) -> str:
    """A program of requirements/tools.txt."""
    path = TOOLS / "bin" / name
    assert path.exists(), f"{path} is missing: make install-tools"
    return str(path)


def compose() -> str:
    """The real docker compose; beside its package's script, which swallows the exit code."""
    found = sorted(TOOLS.glob("lib/python*/site-packages/compose/docker-compose"))
    assert found, "docker-compose is missing: make install-tools"
    return str(found[0])


def debian(name: str) -> str:
    """A program of a Debian package; some live where only root's PATH looks."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    assert found, f"{name} is missing: make install-tools, as root"
    return found


def run(*command: str | Path, env: Mapping[str, str] | None = None, stdin: str = "", cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, timeout=120, check=False)
