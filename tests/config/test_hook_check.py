"""`hooks` in the configuration: the entries that are refused, with their places and the advice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.hook import HookConfig
from gateway.config.hook_check import load_object, pattern_problem
from gateway.config.load import load
from gateway.config.problem import ConfigError
from gateway.hooks.api import Hook
from tests.support.each import each

MODULE = """
from gateway.hooks.api import Hook
class Rule(Hook):
    def __init__(self, words=()):
        self.words = words
    def request(self, request):
        return None
class Lax(Rule):
    failure = "close"
rule = Rule()
other = object()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a configuration, with modules next to it."""
    (tmp_path / "rules_of_a_test.py").write_text(MODULE)
    (tmp_path / "broken_rules_of_a_test.py").write_text("raise RuntimeError('no database')")
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    for name in ("rules_of_a_test", "broken_rules_of_a_test"):
        sys.modules.pop(name, None)


def hooks_of(folder: Path, hooks: str) -> tuple[HookConfig, ...]:
    """Return the settings of these hooks, as loaded from a configuration."""
    path = folder / "gateway.yaml"
    path.write_text(f"providers: {{ local: {{}} }}\nmodels: {{ m: local/x }}\nhooks:\n{hooks}")
    return load(path).hooks


def test_every_kind_of_hook_is_read(folder: Path) -> None:
    text = """
  - rules_of_a_test:rule
  - { use: "rules_of_a_test:Rule", options: { words: [a] }, deadline: 200ms, failure: open }
  - mask: {}
  - guard: { url: "https://guard.example.com/x" }
  - deny: { words: [a], patterns: ["b+"] }
"""
    own, made, mask, guard, deny = hooks_of(folder, text)
    names = [each.name for each in (own, made, mask, guard, deny)]
    assert names == ["rules_of_a_test:rule", "rules_of_a_test:Rule", "mask", "guard", "deny"]
    assert (made.deadline, made.failure, own.failure) == (0.2, "open", None)
    found = load_object(made.use or "", made.options, str(folder / "gateway.yaml"))
    assert isinstance(found, Hook)
    assert getattr(found, "words", None) == ["a"]


REFUSED = [
    ("  - rules_of_a_test:nothing", "hooks[0]", "has no 'nothing'"),
    ("  - rules_of_a_test", "hooks[0]", "expected MODULE:OBJECT"),
    ("  - rules_of_a_test:other", "hooks[0]", "is not a hook"),
    ("  - rules_of_a_test:Lax", "hooks[0]", "write open or closed"),
    ("  - no_such_module_at_all:x", "hooks[0]", "the module 'no_such_module_at_all' is not found: install it"),
    ("  - broken_rules_of_a_test:x", "hooks[0]", "RuntimeError: no database"),
    ('  - { use: "rules_of_a_test:Rule", options: { wrong: 1 } }', "hooks[0].use", "unexpected keyword"),
    ('  - { use: "rules_of_a_test:rule", options: { words: [a] } }', "hooks[0].use", "remove options"),
    ("  - {}", "hooks[0]", "expected one of use, mask, guard and deny"),
    ("  - { mask: {}, deny: { words: [a] } }", "hooks[0]", "has mask and deny"),
    ("  - { mask: {}, options: { a: 1 } }", "hooks[0].options", "write the settings below mask"),
    ("  - { mask: { kinds: [] } }", "hooks[0].mask.kinds", "the list is empty"),
    ("  - { mask: { kinds: [emails] } }", "hooks[0].mask.kinds[0]", "email"),
    ("  - { mask: {}, deadline: 2m }", "hooks[0].deadline", "at most 60s"),
    ("  - { deny: {} }", "hooks[0].deny", "add words or patterns"),
    ('  - { deny: { words: [" "] } }', "hooks[0].deny.words[0]", "got nothing"),
    ('  - { deny: { patterns: ["("] } }', "hooks[0].deny.patterns[0]", "missing )"),
    ('  - { deny: { patterns: ["a*"] } }', "hooks[0].deny.patterns[0]", "matches the empty text"),
    ('  - { deny: { patterns: ["(?=a)"] } }', "hooks[0].deny.patterns[0]", "RE2"),
    ("  - { deny: { words: [a], checks: [] } }", "hooks[0].deny.checks", "name input, output or both"),
    ('  - { guard: { url: "http://guard.example.com/x" } }', "hooks[0].guard.url", "use https"),
    ('  - { guard: { url: "https://u:p@guard.example.com/x" } }', "hooks[0].guard.url", "do not write the password"),
    ('  - { guard: { url: "https://g.example.com/x", model: a } }', "hooks[0].guard.model", "format: moderations"),
]


@each(("hooks", "path", "message"), REFUSED)
def test_a_mistake_is_reported_at_its_line_with_advice(folder: Path, hooks: str, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        hooks_of(folder, hooks)
    (problem,) = refused.value.problems
    assert (problem.path, problem.line) == (path, 4)
    assert message in problem.message


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    monkeypatch.setattr("gateway.config.hook_check.has_extra", lambda extra: False)
    advice = 'run pip install ".[patterns]" in the checkout of Lockgate (docs/installation.md)'
    assert pattern_problem("a") == f"requires packages that are not installed: {advice}"
