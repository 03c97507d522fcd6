"""`lockgate key create`: the printed key, its entry for the configuration, and errors."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import yaml

from gateway.commands import cli as command
from gateway.config import load as config
from gateway.config.limit import Rate
from gateway.config.load import Config

BASE = "providers: {local: {}}\nmodels: {smart: local/x, fast: local/y}\n"


def create(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[str, str]:
    """Run the command and return the key and its YAML entry."""
    assert command.run(["key", "create", *args]) == 0
    secret, _, entry = capsys.readouterr().out.partition("\n\n")
    return secret, entry


def load(entry: str) -> Config:
    """Return a configuration that contains the entry."""
    return config.parse((BASE + entry).encode(), "g.yaml", environ={})


def test_key_is_random_and_its_entry_has_only_the_hash(capsys: pytest.CaptureFixture[str]) -> None:
    secrets = set()
    for _ in range(20):
        secret, entry = create(capsys, "--name", "team")
        secrets.add(secret)
        assert secret.startswith("lg-")
        assert len(secret) == 46
        assert secret not in entry
        assert load(entry).keys["team"].hash == "sha256:" + hashlib.sha256(secret.encode()).hexdigest()
    assert len(secrets) == 20


def test_entry_has_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    args = [
        "--models",
        "smart, fast",
        "--limits",
        "requests=600/min,tokens=200k/min",
        "-l",
        "spend=50 USD/month",
        "-l",
        "concurrent=20,requests=10/s",
    ]
    _, entry = create(capsys, "--name", "team", *args, "--expires", "2027-12-31", "--strict")
    found = load(entry).keys["team"]
    assert found.models == ("smart", "fast")
    assert (found.limits.requests, found.limits.tokens) == ((Rate(600, "min"), Rate(10, "s")), (Rate(200_000, "min"),))
    assert (found.limits.spend, found.limits.concurrent) == ((Rate(50 * 10**9, "month"),), 20)
    assert found.strict
    assert found.expires is not None
    assert found.expires.isoformat() == "2028-01-01T00:00:00+00:00"


def test_entry_has_the_passed_paths_of_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    _, entry = create(capsys, "--name", "team", "--passthrough", "/v1/audio/*, *")
    assert '    passthrough: ["/v1/audio/*", "*"]' in entry


def test_entry_can_be_disabled_with_strict_limits(capsys: pytest.CaptureFixture[str]) -> None:
    _, entry = create(capsys, "--name", "team", "--disabled", "--limits", "tokens=1k/min,strict=true,outage=closed")
    found = load(entry).keys["team"]
    assert (found.disabled, found.limits.strict, found.limits.outage) == (True, True, "closed")


@pytest.mark.parametrize("name", ["a b", "true", "x: y", "# x", '"', "*", "[a]", "ü", "null", "12"])
def test_any_name_is_quoted_so_that_yaml_reads_it_back(capsys: pytest.CaptureFixture[str], name: str) -> None:
    _, entry = create(capsys, "--name", name)
    assert [str(one) for one in yaml.safe_load(entry)["keys"]] == [name]
    assert list(load(entry).keys) == [name]


def test_json_output_has_key_and_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["key", "create", "--name", "team", "--limits", "requests=1/s", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["keys"]["team"]["hash"] == "sha256:" + hashlib.sha256(found["key"].encode()).hexdigest()
    assert found["keys"]["team"]["limits"] == {"requests": "1/s"}


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ([], "Missing option '--name'"),
        (["--name", "t", "--limits", "requests"], "a limit must have the form KIND=LIMIT"),
        (["--name", "t", "--limits", "requests=600"], "t.limits.requests: expected a rate such as 600/min"),
        (["--name", "t", "--limits", "request=600/min"], "did you mean 'requests'?"),
        (["--name", "t", "--limits", "requests=-1/min"], "a limit must be more than 0"),
        (["--name", "t", "--limits", "requests=1/s,requests=2/s"], "requests[1]: second limit for the window 's'"),
        (["--name", "t", "--limits", "concurrent=1,concurrent=2"], "the limit 'concurrent' is set twice"),
        (["--name", "t", "--limits", "spend=5 EUR/day"], "the unit must be USD"),
        (["--name", "t", "--models", ""], "'--models': the value is empty"),
        (["--name", "t", "--passthrough", " , "], "'--passthrough': the value is empty"),
        (["--name", "t", "--limits", "requests=1/s", "--limits", ""], "'--limits' / '-l': the value is empty"),
        (["--name", "t", "--team", " "], "'--team': the value is empty"),
        (["--name", "t", "--expires", ""], "'--expires': the value is empty"),
        (["--name", "t", "--expires", "soon"], "t.expires: expected a date"),
        (["--name", "t", "--expires", "2020-02-29"], "t.expires: the key expired at 2020-03-01T00:00:00Z"),
    ],
)
def test_mistake_is_a_one_line_error_without_a_key(
    capsys: pytest.CaptureFixture[str], args: list[str], error: str
) -> None:
    assert command.run(["key", "create", *args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert error in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("args", [["list"], ["revoke", "team"]])
def test_admin_url_comes_from_the_environment(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCKGATE_ADMIN", "http://127.0.0.1:9")
    assert command.run(["key", *args]) == 1
    assert "no gateway answers at http://127.0.0.1:9" in capsys.readouterr().err
