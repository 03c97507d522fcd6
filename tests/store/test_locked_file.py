"""Locked files: one owner at a time, atomic replacement, appending."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.store.locked_file import append_and_sync, replace_file, try_lock


def test_a_replaced_file_is_locked_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    owner = replace_file(path, b"first\n")
    other = os.open(path, os.O_RDWR)
    assert not try_lock(other)
    os.close(owner)
    assert try_lock(other)
    os.close(other)


def test_a_file_is_replaced_in_full_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    os.close(replace_file(path, b"a long first version\n"))
    descriptor = replace_file(path, b"second\n")
    append_and_sync(descriptor, b"third\n")
    os.close(descriptor)
    assert path.read_bytes() == b"second\nthird\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_file_in_use_by_another_process_is_an_error(tmp_path: Path) -> None:
    busy = os.open(tmp_path / "a.new", os.O_WRONLY | os.O_CREAT, 0o600)
    assert try_lock(busy)
    with pytest.raises(OSError, match="in use"):
        replace_file(tmp_path / "a.journal", b"data")
    os.close(busy)
    assert not (tmp_path / "a.journal").exists()
