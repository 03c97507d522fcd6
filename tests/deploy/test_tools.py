"""The real validators on the real files: hadolint and docker compose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.deploy import tools

pytestmark = pytest.mark.prove


def test_hadolint_accepts_the_dockerfile() -> None:
    done = tools.run(tools.locked("hadolint"), tools.DEPLOY / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_docker_compose_accepts_the_file_and_rejects_a_broken_one(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    file = tools.ROOT / "docker-compose.yml"
    done = tools.run(tools.compose(), "-f", file, "config", "-q", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    done = tools.run(tools.compose(), "-f", file, "--profile", "full", "config", "-q", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    done = tools.run(tools.compose(), "-f", file, "config", "--services", env=env)
    assert set(done.stdout.split()) == {"init", "redis", "gateway"}
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(file.read_text().replace("read_only:", "read_onyl:"))
    assert tools.run(tools.compose(), "-f", broken, "config", "-q", env=env).returncode != 0
