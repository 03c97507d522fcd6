"""`make run` in a fresh clone, with only the weights cached."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from benchmarks.ports import free_port
from tests.running import Figure
from tests.support.plain_http import WITHOUT_AUTHORITIES

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fresh clone: the files under version control, and new files that are not ignored."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@contextmanager
def make_run(tree: Path, **variables: object) -> Iterator[tuple[str, Path]]:
    """Run `make run` until the gateway is ready and yield its URL and log file. At the end, interrupt it like a terminal does."""
    log = tree / "make-run.log"
    port, admin_port = free_port(), free_port()
    command = ["make", "run", f"PORT={port}", f"ADMIN_PORT={admin_port}", *(f"{name}={value}" for name, value in variables.items())]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VIRTUAL_ENV"))}
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=tree, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=kept, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{admin_port}/readyz", process, log)
        yield f"http://127.0.0.1:{port}/v1", log
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the gateway is ready."""
    deadline = time.monotonic() + 600
    while True:
        try:
            if httpx.get(url, verify=WITHOUT_AUTHORITIES, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def test_first_run_installs_and_answers_and_second_run_installs_nothing(tree: Path, figure: Figure) -> None:
    began = time.monotonic()
    with make_run(tree) as (base_url, log):
        figure("make run from nothing to a loaded model", time.monotonic() - began, "s")
        with openai.OpenAI(base_url=base_url, api_key="anything", max_retries=0, timeout=120) as client:
            messages: list[object] = [{"role": "user", "content": "What is the capital of France?"}]
            answer = client.chat.completions.create(model="local", messages=messages)  # type: ignore[arg-type]
            assert "Paris" in (answer.choices[0].message.content or "")
        output = log.read_text()
        for part in (f"listening on {base_url.removesuffix('/v1')}", "curl ", "openai", "admin on http://127.0.0.1:"):
            assert part in output
    stamp = (tree / ".venv" / ".installed-run").stat().st_mtime_ns
    began = time.monotonic()
    with make_run(tree, WORKERS=1, CONFIG="config/gateway.yaml") as (base_url, log):
        figure("second make run to a loaded model", time.monotonic() - began, "s")
        assert httpx.get(base_url + "/models", verify=WITHOUT_AUTHORITIES, timeout=30, trust_env=False).json()["data"]
        assert "Traceback" not in log.read_text()
    assert (tree / ".venv" / ".installed-run").stat().st_mtime_ns == stamp


def test_invalid_combination_ends_with_one_line(tree: Path) -> None:
    """Two workers cannot share counters in memory."""
    command = ["make", "--no-print-directory", "run", "WORKERS=2", f"PORT={free_port()}"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith(("make: ", "make["))]
    assert "memory://" in line


def test_missing_venv_module_is_reported_with_the_package_to_install(tree: Path, tmp_path: Path) -> None:
    bare = tmp_path / "python-without-venv"
    bare.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexec python3 "$@"\n')
    bare.chmod(0o755)
    command = ["make", "run", f"PYTHON={bare}", "VENV=.venv-none"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stdout
    assert not (tree / ".venv-none").exists()
