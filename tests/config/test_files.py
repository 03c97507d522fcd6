"""Files that a configuration refers to: contents that are given, and fingerprints that reveal a change."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.config.files import MISSING, Files, fingerprint, fingerprints
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
    assert fingerprints([str(file), "/nowhere"]) == {str(file): fingerprint(str(file)), "/nowhere": MISSING}


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
