"""Journal files: which are abandoned, and which temporary files are removed."""

from __future__ import annotations

import os
import time
from pathlib import Path

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


def test_only_old_temporary_files_are_removed(tmp_path: Path) -> None:
    old, recent = tmp_path / "old.new", tmp_path / "recent.new"
    for path in (old, recent):
        path.touch()
    hours_ago = time.time() - 2 * 3600
    os.utime(old, (hours_ago, hours_ago))
    remove_stray_files(tmp_path)
    assert list(tmp_path.iterdir()) == [recent]
