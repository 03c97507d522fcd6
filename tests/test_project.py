"""Lock files, README, workflows and the built package are consistent with the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import providers
from tests.support.each import each

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def canonical(name: str) -> str:
    """Return the normalized name of a distribution."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", name)[0]).lower()


def pins(lock: str) -> dict[str, set[str]]:
    """Return the names and versions in a lock file."""
    versions: dict[str, set[str]] = {}
    for name, version in _PIN.findall((ROOT / "requirements" / f"{lock}.txt").read_text()):
        versions.setdefault(canonical(name), set()).add(version)
    return versions


@each("lock", LOCKS, ids=lambda path: path.stem)
def test_lock_file_has_hashes_and_names_no_index(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"^\s*-+(?:i\b|index|extra-index|find-links|trusted).*|https?://.*| @ .*", text, re.MULTILINE) == []


AGENTS = [f"tests/clients/agents/{name}" for name in ("codex", "opencode", "claude-code")]


@pytest.mark.parametrize("folder", ["tests/clients", "tests/deploy/grafana", "tests/page", "benchmarks/portkey", *AGENTS])
def test_javascript_lock_file_has_hashes_and_names_no_registry(folder: str) -> None:
    text = (ROOT / folder / "package-lock.json").read_text()
    assert text.count('"node_modules/') == text.count('"integrity": "sha512-')
    assert '"resolved"' not in text


def test_lock_files_cover_the_declared_dependencies() -> None:
    declared = {canonical(name) for name in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["local"], "setuptools"]}
    assert declared - set(pins("run")) == set()
    assert {canonical(name) for name in PROJECT["optional-dependencies"]["dev"]} - set(pins("dev")) == set()


def test_tests_and_users_run_the_same_versions() -> None:
    run, dev = pins("run"), pins("dev")
    assert {name: versions for name, versions in run.items() if dev.get(name) != versions} == {}


def test_the_image_has_opentelemetry_and_else_the_same_versions() -> None:
    run, image = pins("run"), pins("image")
    assert {canonical(name) for name in PROJECT["optional-dependencies"]["otel"]} - set(image) == set()
    assert {name: versions for name, versions in run.items() if image.get(name) != versions} == {}


def test_lock_file_has_async_timeout_for_python_before_3_11_3() -> None:
    """Redis requires async-timeout before Python 3.11.3 (Debian has 3.11.2). A lock resolved only for a newer Python would lack it."""
    assert "async-timeout" in pins("run")


def test_readme_explains_each_dependency() -> None:
    table = README.partition("## Dependencies")[2].partition("\n## ")[0]
    names = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["local"]]
    assert [name for name in names if not re.search(rf"\b{re.escape(canonical(name))}\b", table)] == []


def test_readme_configuration_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    config = tmp_path / "readme.yaml"
    config.write_text(text)
    command = [sys.executable, "-m", "gateway", "check", str(config)]
    env = {**os.environ, "OPENAI_API_KEY": "sk-example"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_lists_every_provider_type() -> None:
    (listed,) = re.findall(r"^Types of providers: (.*?)\.\n\n", README, re.DOTALL | re.MULTILINE)
    assert re.findall(r"`([^`]+)`", listed) == sorted(providers.OURS)


def test_readme_shows_the_actual_receipt_header(tmp_path: Path) -> None:
    target = re.findall(r"^x-gateway-target: (.+)$", README, re.MULTILINE)[0]
    (shown,) = re.findall(r"^x-gateway-adjusted: (.+)$", README, re.MULTILINE)
    config, request = tmp_path / "gateway.yaml", tmp_path / "request.json"
    config.write_text(f'providers: {{ {target.split("/")[0]}: {{ api_key: "${{EXAMPLE_KEY}}" }} }}\nmodels: {{ smart: {target} }}\n')
    request.write_text('{"model": "smart", "top_k": 5, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}')
    command = [sys.executable, "-m", "gateway", "explain", str(request), "--config", str(config)]
    env = {**os.environ, "EXAMPLE_KEY": "sk-example"}
    planned = json.loads(subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    adjustments = planned["targets"][0]["adjustments"]
    listed = [f'"{item["param"]}";{item["action"]}' + (f';to="{item["to"]}"' if "to" in item else "") for item in adjustments]
    assert shown == ", ".join(listed)


def test_readme_links_and_folders_exist() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    folders = re.findall(r"^\| `([a-z]+/)`", README, re.MULTILINE)
    assert folders
    assert [name for name in [*linked, *folders] if not (ROOT / name).exists()] == []


def test_readme_commands_exist() -> None:
    help_text = subprocess.run([sys.executable, "-m", "gateway", "--help"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    named = set(re.findall(r"`lockgate (\w+)", README))
    assert named
    assert [name for name in named if not re.search(rf"^\s+{name}\b", help_text, re.MULTILINE)] == []
    make = (ROOT / "Makefile").read_text()
    assert [name for name in set(re.findall(r"make ([a-z]+)", README)) if not re.search(rf"^{name}:", make, re.MULTILINE)] == []


def test_ci_script_runs_tests_and_proofs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\w+)$", script.read_text(), re.MULTILINE) == ["test", "prove"]
    assert "set -euo pipefail" in script.read_text()


def test_workflows_use_pinned_actions_and_read_only_permissions() -> None:
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [path.name for path in files] == ["audit.yml", "ci.yml", "release.yml"]
    for path in files:
        text = path.read_text()
        workflow = yaml.safe_load(text)
        used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
        assert len(used) == text.count("uses: ") > 0
        assert [item for item in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", item)] == []
        assert workflow["permissions"] == {"contents": "read"}
        assert "secrets." not in text


def test_wheel_contains_all_program_files_and_no_others(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("gateway", "providers"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "samples"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    build = "import setuptools.build_meta as backend; print(backend.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = set(zipfile.ZipFile(tree / done.stdout.splitlines()[-1]).namelist())
    files = (path for folder in ("gateway", "providers") for path in (tree / folder).rglob("*") if path.is_file())
    assert {str(path.relative_to(tree)) for path in files} - names == set()
    assert {name.split("/")[0] for name in names} <= {"gateway", "providers", f"lockgate-{PROJECT['version']}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
