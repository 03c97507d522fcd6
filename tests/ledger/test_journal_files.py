"""Journal files: abandoned files, and temporary files that are removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from gateway.ledger.journal_files import JOURNAL_SUFFIX, abandoned_journals, remove_stray_files
from gateway.store.locked_file import replace_file


def test_only_unlocked_journals_are_abandoned(tmp_path: Path) -> None:
    alive, ended = (tmp_path / f"{name}{JOURNAL_SUFFIX}" for name in ("alive", "ended"))
    owner = replace_file(alive, b"alive\n")
    os.close(replace_file(ended, b"ended\n"))
    journals = list(abandoned_journals(tmp_path))
    assert [(journal.path, journal.read()) for journal in journals] == [(ended, b"ended\n")]
    assert list(abandoned_journals(tmp_path)) == []  # locked by the first reader
    journals[0].remove()
    journals[0].close()
    assert list(tmp_path.iterdir()) == [alive]
    os.close(owner)


def test_a_journal_that_is_locked_does_not_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.close(replace_file(tmp_path / f"alive{JOURNAL_SUFFIX}", b"alive\n"))
    opened: list[int] = []

    def is_locked(descriptor: int) -> bool:
        opened.append(descriptor)
        return False

    monkeypatch.setattr("gateway.ledger.journal_files.try_lock", is_locked)
    assert list(abandoned_journals(tmp_path)) == []
    (descriptor,) = opened
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_only_old_temporary_files_are_removed(tmp_path: Path) -> None:
    old, recent = tmp_path / "old.new", tmp_path / "recent.new"
    for path in (old, recent):
        path.touch()
    hours_ago = time.time() - 2 * 3600
    os.utime(old, (hours_ago, hours_ago))
    remove_stray_files(tmp_path)
    assert list(tmp_path.iterdir()) == [recent]


def test_a_temporary_file_is_old_after_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000
    monkeypatch.setattr("gateway.ledger.journal_files.time.time", lambda: now)
    for age in (3599, 3600, 3601):
        path = tmp_path / f"{age}.new"
        path.touch()
        os.utime(path, (now - age, now - age))
    remove_stray_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3599.new", "3600.new"]


def test_a_file_that_cannot_be_read_or_removed_does_not_hide_the_others(tmp_path: Path) -> None:
    for name in ("1", "3"):
        os.close(replace_file(tmp_path / f"{name}{JOURNAL_SUFFIX}", b"content\n"))
    for name in (f"2{JOURNAL_SUFFIX}", "1.new", "0.new"):
        (tmp_path / name).mkdir()  # a folder instead of a file
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "2.new").touch()
    os.utime(tmp_path / "2.new", (0, 0))
    journals = list(abandoned_journals(tmp_path))
    assert [journal.path.stem for journal in journals] == ["1", "3"]
    remove_stray_files(tmp_path)
    assert not (tmp_path / "2.new").exists()
    for journal in journals:
        journal.remove()
        journal.remove()  # another process may have done so
        journal.close()


def test_a_journal_is_read_completely_each_time_and_free_once_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / f"ended{JOURNAL_SUFFIX}"
    os.close(replace_file(path, b"ended\n"))
    (journal,) = abandoned_journals(tmp_path)
    assert (journal.read(), journal.read()) == (b"ended\n", b"ended\n")
    journal.close()
    (journal,) = abandoned_journals(tmp_path)
    journal.close()
