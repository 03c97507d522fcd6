"""Files that a configuration refers to: contents that are given, and fingerprints that reveal a change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.config.files import MISSING, SETTLE_S, Files, Watch, fingerprint
from gateway.config.yamlfile import MAX_BYTES


def test_a_fingerprint_follows_the_content(tmp_path: Path) -> None:
    file = tmp_path / "x"
    assert fingerprint(str(file)) == MISSING
    file.write_text("one")
    first = fingerprint(str(file))
    os.utime(file, (1, 1))
    assert fingerprint(str(file)) == first
    file.write_text("two")
    assert fingerprint(str(file)) != first
    assert Watch().fingerprints([str(file), "/nowhere"]) == {str(file): fingerprint(str(file)), "/nowhere": MISSING}


class Reads:
    """A watch of one file, with a clock of its own. It counts how often the file is read."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.count = 0
        self.now = 0.0
        self._watch = Watch(self._read, lambda: self.now)

    def _read(self, path: str) -> str:
        self.count += 1
        return fingerprint(path)

    def check(self) -> str:
        """Return the fingerprint of the file."""
        return self._watch.fingerprints([str(self.file)])[str(self.file)]


def test_a_watched_file_is_not_read_again_once_it_has_settled(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("one")
    reads = Reads(file)
    first = reads.check()
    reads.now = SETTLE_S
    reads.check()
    settled = reads.count
    for reads.now in range(3, 100):
        assert reads.check() == first
    assert (settled, reads.count) == (2, 2)
    file.write_text("three")
    assert reads.check() == fingerprint(str(file)) != first


def test_a_change_that_leaves_the_status_of_a_watched_file_is_noticed_when_it_settles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x"
    file.write_text("one")
    status = os.stat(file)
    monkeypatch.setattr("gateway.config.files.os.stat", lambda path: status)
    reads = Reads(file)
    first = reads.check()
    reads.now = SETTLE_S / 2
    reads.check()
    file.write_text("two")
    reads.now = SETTLE_S
    assert reads.check() == fingerprint(str(file)) != first


def test_a_replaced_link_is_noticed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1, 1))
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    reads = Reads(link)
    reads.check()
    reads.now = SETTLE_S
    reads.check()
    link.unlink()
    assert reads.check() == MISSING
    link.symlink_to(tmp_path / "two")
    assert reads.check() == fingerprint(str(tmp_path / "two"))


def test_a_large_file_has_a_fingerprint_of_its_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"x" * (MAX_BYTES + 1))
    first = fingerprint(str(file))
    assert first.startswith(f"{MAX_BYTES + 1}:")
    os.utime(file, (1, 1))
    assert fingerprint(str(file)) != first


def test_a_given_secret_is_used_instead_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    files = Files({str(file): "given"})
    assert files.is_given(file)
    assert files.secret(file).reveal() == "given"
    assert files.secrets == {str(file): "given"}
    assert files.fingerprints == {str(file): MISSING}


def test_a_text_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("first")
    files = Files()
    assert files.text(file) == "first"
    file.write_text("second")
    assert files.text(file) == "first"


def test_files_of_an_earlier_reading_may_be_missing() -> None:
    files = Files(known=["/gone"])
    assert files.was_present(Path("/gone"))
    assert not files.was_present(Path("/other"))
