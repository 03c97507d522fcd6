"""Differences between configurations, and the command `lockgate diff`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gateway.commands import cli as command
from gateway.config import load as config
from gateway.config.diff import RESTART_ONLY, compare, keep_restart_only, restart_changes, summarize
from gateway.config.load import Config
from tests.support.each import each

BASE = "providers: { o: { type: openai, api_key: '${K}' }, local: {} }\nmodels: { m: o/a }\n"
ENVIRON = {"K": "sk-canary-0123456789", "L": "sk-canary-9876543210", "S": "redis://u:canary@h:1/0"}


def key(seed: str) -> str:
    """Return the hash of a key."""
    return "sha256:" + hashlib.sha256(seed.encode()).hexdigest()


def parse(text: str) -> Config:
    """Return the configuration of a YAML text."""
    return config.parse(text.encode(), "g.yaml", environ=ENVIRON)


def lines(old: str, new: str) -> list[str]:
    """Return the differences of two YAML texts as lines."""
    return [str(change) for change in compare(parse(old), parse(new))]


KEY = f"keys: {{ k: {{ hash: '{key('a')}', limits: {{ requests: 600/min }} }} }}\n"
ISSUER = "issuers: { s: { issuer: 'https://a.example', audience: x, policies: { '*': { limits: { requests: 5/min } } } } }\n"

CASES = [
    (BASE, BASE + "passthrough: { /v1/files: o }\n", ["+ path /v1/files: provider o"]),
    (
        BASE + "passthrough: { /v1/files: o, /v1/b: o }\n",
        BASE + "passthrough: { /v1/files: { provider: o, methods: [GET] } }\n",
        ["- path /v1/b", '~ path /v1/files: methods ["GET","HEAD","POST","PUT","PATCH","DELETE","OPTIONS"] -> ["GET"]'],
    ),
    (BASE, BASE, []),
    (BASE, BASE.replace("{ m: o/a }", "{\n  m:\n    o/a\n}") + "# a comment\n", []),
    (BASE, BASE.replace("o/a", "[o/a, {o/b: 3, o/c: 1}]"), ["~ model m: targets o/a -> o/a, then o/b (75%) or o/c (25%)"]),
    (
        BASE,
        BASE.replace("{ m: o/a }", "{ m: {targets: o/a, timeout: 30s}, n: m }"),
        ["~ model m: timeout none -> 30s", "+ model n: targets m"],
    ),
    (BASE.replace("o/a }", "o/a, n: m }"), BASE, ["- model n"]),
    (BASE, BASE.replace("'${K}'", "'${L}'"), ['~ provider o: api_key ["***"] (different value)']),
    (BASE, BASE.replace("local: {}", "local: { slots: 3 }"), ["~ provider local: slots 4 -> 3"]),
    (BASE, BASE + "max_body: 5MiB\n", ["~ max_body: 32MiB -> 5MiB"]),
    (BASE, BASE + "listen: 127.0.0.1:9\n", ["~ listen: 127.0.0.1:8080 -> 127.0.0.1:9 (needs a restart)"]),
    (BASE, BASE + "admin: 127.0.0.1:9\n", ["~ admin.listen: 127.0.0.1:8081 -> 127.0.0.1:9 (needs a restart)"]),
    (BASE, BASE + "store: '${S}'\n", ["~ store: memory:// -> redis://***@h:1/0 (needs a restart)"]),
    (BASE + KEY, BASE + KEY.replace("600", "300"), ["~ key k: limits.requests 600/min -> 300/min"]),
    (BASE + KEY, BASE, ["- key k"]),
    (BASE, BASE + ISSUER, ["+ issuer s: issuer https://a.example; audience [\"x\"]; policies.*.limits.requests 5/min"]),
    (BASE + ISSUER, BASE + ISSUER.replace("5/min", "6/min"), ["~ issuer s: policies.*.limits.requests 5/min -> 6/min"]),
    (
        BASE + ISSUER,
        BASE + ISSUER.replace("policies: {", "policy_claim: roles, policies: { a: {}, b: { strict: true },"),
        ["~ issuer s: policy_claim none -> roles; policies.a none -> {}; policies.b.strict none -> true"],
    ),
    (BASE, BASE + KEY, [f"+ key k: hash {key('a')[:15]}...; limits.requests 600/min"]),
]  # fmt: skip


@each(("old", "new", "expected"), CASES)
def test_each_difference_is_one_line_without_secrets(old: str, new: str, expected: list[str]) -> None:
    differences = lines(old, new)
    assert differences == expected
    assert "canary" not in " ".join(differences)


def test_comparison_is_reflexive_and_symmetric() -> None:
    for old, new, _ in CASES:
        assert compare(parse(old), parse(old)) == []
        there, back = compare(parse(old), parse(new)), compare(parse(new), parse(old))
        assert {(change.section, change.name) for change in there} == {(change.section, change.name) for change in back}


@each("path", RESTART_ONLY)
def test_restart_only_settings_of_the_running_configuration_are_kept(path: str) -> None:
    values = {
        "listen": "listen: 127.0.0.1:9\n",
        "admin.listen": "admin: 127.0.0.1:9\n",
        "store": "store: redis://h:1/0\n",
        "store_deadline": "store_deadline: 70ms\n",
        "trusted_proxies": "trusted_proxies: [10.0.0.0/8]\n",
        "store_password": "store: redis://h:1/0\nstore_password: '${K}'\n",
        "store_sentinel_password": "store: redis+sentinel://h/m\nstore_sentinel_password: '${K}'\n",
        "journal": "journal: elsewhere\n",
        "metrics": "metrics: { max_series: 3000 }\n",
    }
    running, new = parse(BASE), parse(BASE + values.get(path, ""))
    if path in values:
        assert path in {change.name.partition(".max_series")[0] for change in restart_changes(running, new)}
    assert restart_changes(running, keep_restart_only(new, running)) == []
    assert keep_restart_only(new, running) == running


def test_the_summary_counts_changes_by_section() -> None:
    changes = compare(parse(BASE + KEY), parse(BASE.replace("o/a", "o/b, n: m") + "max_body: 5MiB\n"))
    assert summarize(changes) == "models: 1 added, 1 changed; keys: 1 removed; max_body changed"
    assert summarize([]) == "only the formatting has changed"


def run(tmp_path: Path, old: str, new: str, *args: str) -> int:
    """Run the command on two files, and return its exit code."""
    for name, text in {"old": old, "new": new}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return command.run(["diff", *args, str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")])


def test_the_exit_code_is_like_that_of_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", "sk-canary-0123456789")
    assert run(tmp_path, BASE, BASE) == 0
    assert capsys.readouterr().out == ""
    assert run(tmp_path, BASE, BASE + "max_body: 5MiB\n") == 1
    assert capsys.readouterr().out == "~ max_body: 32MiB -> 5MiB\n"
    assert run(tmp_path, BASE, BASE + "retrys: 1\n") == 2
    assert "new.yaml:3:1: retrys: unknown key" in capsys.readouterr().err
    assert run(tmp_path, BASE, BASE + "listen: 127.0.0.1:9\n", "--json") == 1
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert [(change["name"], change["restart"]) for change in changes] == [("listen", True)]


@pytest.mark.parametrize(
    ("store", "before", "after", "restart"),
    [
        ("store: redis://h:1/0\nstore_password: file:{file}\n", "one", "two", False),
        ("store: file:{file}\n", "redis://:one@h:1/0", "redis://:two@h:1/0", False),
        ("store: file:{file}\n", "redis://:one@h:1/0", "redis://:one@other:1/0", True),
        ("store: file:{file}\n", "redis://:one@h:1/0", "memory://", True),
    ],
)
def test_a_new_password_in_a_file_needs_no_restart(tmp_path: Path, store: str, before: str, after: str, restart: bool) -> None:
    file, configs = tmp_path / "secret", []
    for content in (before, after):
        file.write_text(content)
        file.chmod(0o600)
        configs.append(config.parse(store.format(file=file).encode(), "g.yaml", environ={}))
    (change,) = compare(*configs)
    assert (change.restart, [item.name for item in restart_changes(*configs)]) == (restart, [change.name] if restart else [])
    assert "one" not in str(change)
