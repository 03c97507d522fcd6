"""The command line of the benchmark."""

from __future__ import annotations

import sys

import pytest

from benchmarks.__main__ import main, run
from benchmarks.bench import Bench
from benchmarks.sections import Section


def test_unknown_section_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--only", "json,speed"])
    with pytest.raises(SystemExit, match=r"there is no section speed\. Sections: idle, control, json, sse"):
        main()


def test_sections_that_run_once_surround_the_repetitions(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []

    def section(name: str, repeated: bool) -> Section:
        return Section(name, name.title(), "", lambda bench: done.append(name), (), repeated=repeated)

    sections = [section("idle", False), section("json", True), section("sse", True), section("slow", False)]
    run(Bench.__new__(Bench), sections, 2)
    assert done == ["idle", "json", "sse", "json", "sse", "slow"]
    progress = capsys.readouterr().err.splitlines()
    assert len(progress) == 6
    assert progress[3].endswith("4 of 6] Json, repetition 2 of 2")
