"""The distribution: reproducible archives with every file, a release workflow, and a wheel that works in an empty environment."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from benchmarks.ports import free_port
from tests.deploy import tools
from tests.running import UNCLEAN, Figure

ROOT = tools.ROOT
WORKFLOWS = ROOT / ".github" / "workflows"
RELEASE: dict[str, Any] = yaml.safe_load((WORKFLOWS / "release.yml").read_text())
STEPS = [step for job in RELEASE["jobs"].values() for step in job["steps"]]
SCRIPT = "\n".join(step.get("run", "") for step in STEPS)
PACKED = ("gateway", "providers", "config", "MANIFEST.in", "setup.py", "pyproject.toml", "README.md", "LICENSE")
VERSIONED = (
    ROOT / "docker-compose.yml", ROOT / "README.md", ROOT / "docs" / "installation.md", ROOT / "docs" / "releasing.md",
    tools.DEPLOY / "Dockerfile", tools.DEPLOY / "kubernetes" / "deployment.yaml",
)  # fmt: skip
EPOCH = 1_700_000_000
BUILD = "import setuptools.build_meta as backend; backend.build_sdist('out'); backend.build_wheel('out')"


def build(folder: Path) -> dict[str, bytes]:
    """Build both archives in the folder from a copy of the project. Return their content by name."""
    tree = folder / "tree"
    for name in PACKED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
        else:
            shutil.copy(ROOT / name, tree / name)
    (tree / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_project.py", tree / "tests")
    command = [sys.executable, "-W", "ignore", "-c", BUILD]
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in (tree / "out").iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return both archives by their suffix."""
    folder = tmp_path_factory.mktemp("built")
    build(folder)
    return {path.suffix: path for path in (folder / "tree" / "out").iterdir()}


def test_two_builds_of_the_same_files_are_identical(built: dict[str, Path], tmp_path: Path) -> None:
    time.sleep(1.1)  # the formats store times in seconds
    assert {path.name: path.read_bytes() for path in built.values()} == build(tmp_path)
    assert built.keys() == {".whl", ".gz"}


def test_source_archive_has_fixed_times_and_owners_and_contains_what_the_build_needs(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as archive:
        members = archive.getmembers()
    assert {(member.mtime, member.mode, member.uid, member.uname) for member in members} == {(EPOCH, 0o644, 0, "root")}
    names = {member.name.partition("/")[2] for member in members}
    assert [name for name in names if name.startswith("tests")] == [], "the other files of the tests are not packed"
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "gateway/commands/samples/examples/redis.yaml"} <= names


def test_wheel_contains_page_catalog_schema_and_examples(built: dict[str, Path]) -> None:
    names = set(zipfile.ZipFile(built[".whl"]).namelist())
    samples = {f"gateway/commands/samples/{each.relative_to(ROOT / 'config')}" for each in (ROOT / "config").rglob("*.yaml")}
    expected = {"gateway/admin/static/index.html", "gateway/catalog/openai.json", "gateway/commands/samples/schema.json"}
    assert (expected | samples) - names == set()


def test_all_files_name_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((tools.DEPLOY / "helm" / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    (image,) = yaml.safe_load((tools.DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["images"]
    assert image["newTag"] == version
    named = {path: re.findall(r"lockgate[:-](\d+\.\d+\.\d+)", path.read_text()) for path in VERSIONED}
    assert {path.name: found for path, found in named.items() if set(found) != {version}} == {}


def test_release_starts_only_by_a_version_tag() -> None:
    assert RELEASE[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}  # YAML reads the key `on` as true
    assert "the tag must be v{version}" in SCRIPT


def test_release_builds_both_architectures_on_one_base_digest() -> None:
    image = RELEASE["jobs"]["image"]
    runners = {one["architecture"]: one["runner"] for one in image["strategy"]["matrix"]["include"]}
    assert runners == {"amd64": "ubuntu-24.04", "arm64": "ubuntu-24.04-arm"}
    assert image["env"]["BASE_IMAGE"] == "${{ needs.base.outputs.image }}"
    assert '--build-arg "BASE_IMAGE=$BASE_IMAGE"' in SCRIPT
    assert "push-by-digest=true" in SCRIPT
    (base,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", (tools.DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    (pattern,) = re.findall(r"sed -n '(.*)' deploy/Dockerfile", SCRIPT)
    assert tools.run("sed", "-n", pattern, tools.DEPLOY / "Dockerfile").stdout == f"image={base}\n"


def test_release_pins_the_images_before_the_build_and_lists_the_pinned_compose_file_in_the_checksums() -> None:
    pins, upload = RELEASE["jobs"]["base"]["steps"][-2:]
    assert pins["run"].index("pin_images.py\n") < pins["run"].index("pin_images.py --check") < pins["run"].index("sed")
    assert upload["with"]["path"] == "docker-compose.yml"
    packages = RELEASE["jobs"]["packages"]
    assert "base" in packages["needs"]
    names = [step.get("with", {}).get("name") or step.get("run", "") for step in packages["steps"]]
    assert names.index("compose") < next(at for at, text in enumerate(names) if "SHA256SUMS" in text)


def test_release_has_bills_of_materials_provenance_and_signatures() -> None:
    parts = ["--sbom=true", "--provenance=mode=max", "--format cyclonedx-json", "cosign sign --yes --recursive", "cosign sign-blob --yes"]
    assert [part for part in parts if part not in SCRIPT] == []
    attested = [step["with"] for step in STEPS if "attest-build-provenance" in step.get("uses", "")]
    assert [next(iter(one)) for one in attested] == ["subject-path", "subject-name"]
    for lock in re.findall(r"-r (\S+\.txt)", SCRIPT):
        assert (ROOT / lock).exists()


def test_scripts_of_the_workflow_insert_no_expressions() -> None:
    """An expression in a script would run text from outside as shell commands; variables do not."""
    assert "${{" not in SCRIPT


def test_workflows_match_their_schema() -> None:
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *WORKFLOWS.iterdir()]
    done = tools.run(*command)
    assert done.returncode == 0, done.stdout


def test_shell_of_the_workflow_is_valid() -> None:
    for step in STEPS:
        assert tools.run("bash", "-n", stdin=step.get("run", "")).returncode == 0, step


@pytest.mark.prove
def test_auditor_of_workflows_finds_nothing() -> None:
    done = tools.run(tools.locked("zizmor"), "--offline", "--no-progress", WORKFLOWS)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def wheel(built: dict[str, Path]) -> Path:
    return built[".whl"]


@contextmanager
def serving(program: Path, folder: Path) -> Iterator[str]:
    """Run `lockgate serve` in an empty folder until the model is loaded and yield the URL. At the end, stop the gateway."""
    folder.mkdir(exist_ok=True)
    port, admin_port = free_port(), free_port()
    log = folder / "serve.log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    with log.open("wb") as out:
        command = [program, "serve", "--port", str(port), "--admin-port", str(admin_port)]
        process = subprocess.Popen(command, cwd=folder, env=kept, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not _is_ready(admin_port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    assert [sign for sign in UNCLEAN if sign in log.read_text()] == []


def _is_ready(admin_port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{admin_port}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def ask(url: str) -> str:
    """Return the answer of the local model, asked with OpenAI's package."""
    with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=120) as client:
        question = "What is the capital of France?"
        answer = client.chat.completions.create(model="local", messages=[{"role": "user", "content": question}])
    return answer.choices[0].message.content or ""


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_wheel_in_a_fresh_environment_answers_a_chat(wheel: Path, tmp_path: Path, figure: Figure) -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [tmp_path / "venv" / "bin" / "python", "-m", "pip", "install", "-q", f"{wheel}[local]"]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with serving(tmp_path / "venv" / "bin" / "lockgate", tmp_path / "empty") as url:
        assert "Paris" in ask(url)
    figure("an empty environment to the first answer of the wheel", time.monotonic() - began, "s")


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_uv_and_pipx_install_the_command(wheel: Path, tmp_path: Path) -> None:
    env = {**os.environ, "UV_TOOL_DIR": str(tmp_path / "uv"), "UV_TOOL_BIN_DIR": str(tmp_path / "uv-bin")}
    env |= {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "pipx-bin")}
    uv, pipx = tools.locked("uv"), tools.locked("pipx")
    for command in ([uv, "tool", "install", "--python", sys.executable], [pipx, "install", "--python", sys.executable]):
        done = subprocess.run([*command, str(wheel)], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    for folder in ("uv-bin", "pipx-bin"):
        program = tmp_path / folder / "lockgate"
        assert tools.run(program, "--version", cwd=tmp_path).stdout.startswith("lockgate ")
        assert "redis-sentinel" in tools.run(program, "init", "--list", cwd=tmp_path).stdout


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_wheel_without_the_engine_prints_how_to_install_it(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", wheel], check=True, capture_output=True)
    command = [python.with_name("lockgate"), "serve", "--port", str(free_port()), "--admin-port", str(free_port())]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    line = next(line for line in process.stderr if "unavailable" in line)
    process.terminate()
    process.communicate(timeout=60)
    assert 'run pip install ".[local]" in the checkout of Lockgate (docs/installation.md)' in line
