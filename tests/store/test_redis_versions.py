"""Runs the tests of the store with the Redis of Debian (7.0) instead of that of the package index (8.2)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import Figure

ROOT = Path(__file__).parents[2]


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_the_suite_passes_with_the_redis_server_on_the_path(figure: Figure) -> None:
    program = shutil.which("redis-server")
    assert program is not None, "redis-server is missing: apt install redis-server (make install-tools does it as root)"
    version = re.search(r"v=(\d+\.\d+)", subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout)
    assert version is not None
    files = ["test_limit.py", "test_redis.py", "test_topology.py", "test_budget_sync.py", "test_members.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [str(Path("tests") / "store" / name) for name in files]
    environ = {**os.environ, "LOCKGATE_TEST_REDIS": program}
    environ.pop("REDIS_URL", None)
    found = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    passed = re.search(r"(\d+) passed", found.stdout)
    figure(f"passed on Redis {version[1]}", int(passed[1]) if passed else 0, "tests")
    assert found.returncode == 0, found.stdout[-4000:]
