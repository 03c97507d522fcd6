"""Request ids."""

from __future__ import annotations

import re
import subprocess
import sys

from gateway.http.request_id import next_id


def test_ids_are_unique_within_a_process_and_safe_in_a_header() -> None:
    ids = [next_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"req_[0-9a-f]{22}", id) for id in ids)


def test_two_processes_never_make_the_same_id() -> None:
    code = "from gateway.http.request_id import next_id; print(next_id())"
    first, second = (subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout for _ in range(2))
    assert first != second


def test_a_forked_process_makes_other_ids_than_its_parent() -> None:
    code = """
import os
from gateway.http.request_id import next_id
next_id()
child = os.fork()
os.write(1, next_id().encode() + b"\\n")
if child:
    os.waitpid(child, 0)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert len({id[: len("req_") + 12] for id in said}) == len(said) == 2
