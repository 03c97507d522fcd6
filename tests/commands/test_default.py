"""The default command and the entry point."""

from __future__ import annotations

import sys

import pytest

from gateway.__main__ import main
from gateway.commands.default import runs_serve
from tests.support.each import each


@each(
    ("args", "serves"),
    [
        ([], True), (["serve"], True), (["serve", "--help"], True), (["--port", "1"], True), (["-h"], False), (["--version"], False),
        (["top"], False), (["check", "serve"], False),
    ],
)  # fmt: skip
def test_serve_is_the_default_command(args: list[str], serves: bool) -> None:
    assert runs_serve(args) is serves


def test_the_entry_point_exits_with_the_code_of_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["lockgate", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out.startswith("lockgate ")) == (0, True)
