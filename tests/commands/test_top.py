"""`lockgate top`: its output for a running gateway, and its errors."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live
from tests.support.load import CALL_KINDS, Load, configuration

ROOT = Path(__file__).parents[2]


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command with its output in a pipe."""
    command = [sys.executable, "-m", "gateway", "top", *args]
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")} | env
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=50, env=environ, check=False)


async def test_one_frame_shows_models_targets_keys_and_limits_without_colour() -> None:
    names = ("json", "stream", "fallback", "tight", "unknown model")
    kinds = {name: dataclasses.replace(CALL_KINDS[name], weight=10) for name in names}
    async with FaultUpstream() as up, live(configuration(up.base_url, failures=2)) as gateway:
        load = Load(gateway.port, calls=150, callers=4, kinds=kinds)
        await load.run()
        done = await asyncio.to_thread(run, "--once", "--interval", "0.2", "--admin", gateway.admin_url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    assert lines[0].startswith("lockgate 0.")
    for title in ("models", "targets", "keys", "limits that refused calls"):
        assert any(line.strip() == title for line in lines), done.stdout
    assert "local engine" not in done.stdout
    (chat,) = [line.split() for line in lines if line.startswith("chat ")]
    assert int(chat[2]) > 40
    assert "ms" in chat
    (sick,) = [line.split() for line in lines if line.startswith("sick/503")]
    assert sick[1] == "cooling"
    assert any(line.startswith("search ") for line in lines)
    assert [line.split()[:2] for line in lines if line.startswith("key  ")][-1:] == [["key", "requests"]]
    assert max(map(len, lines)) <= 140


def test_unavailable_gateway_is_a_one_line_error() -> None:
    done = run("--once", "--admin", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "no gateway answers at http://127.0.0.1:1" in done.stderr


def test_missing_rich_package_is_an_error_with_the_install_command(tmp_path: Path) -> None:
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError('not here')\n")
    done = run("--once", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    command = 'run pip install ".[top]" in the checkout of Lockgate (docs/installation.md)'
    assert done.stderr == f"lockgate: the package rich is missing: {command}\n"
