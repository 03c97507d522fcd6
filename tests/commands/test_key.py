"""`lockgate key create`: the key once, an entry that the configuration takes, and one line for every mistake."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import yaml

from gateway import __main__ as command
from gateway.config import load as config
from gateway.config.limit import Rate
from gateway.config.load import Config

FRAME = "providers: {local: {}}\nmodels: {smart: local/x, fast: local/y}\n"


def create(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[str, str]:
    """The key, and the YAML beside it."""
    assert command.run(["key", "create", *args]) == 0
    secret, _, entry = capsys.readouterr().out.partition("\n\n")
    return secret, entry


def load(entry: str) -> Config:
    """A file with that entry."""
    return config.parse((FRAME + entry).encode(), "g.yaml", environ={})


def test_a_key_is_long_random_and_known_by_its_hash_alone(capsys: pytest.CaptureFixture[str]) -> None:
    secrets = set()
    for _ in range(20):
        secret, entry = create(capsys, "--name", "team")
        secrets.add(secret)
        assert secret.startswith("lg-")
        assert len(secret) == 46
        assert secret not in entry
        assert load(entry).keys["team"].hash == "sha256:" + hashlib.sha256(secret.encode()).hexdigest()
    assert len(secrets) == 20


def test_everything_it_was_asked_for_is_in_the_entry(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--models", "smart, fast", "--limits", "requests=600/min,tokens=200k/min", "-l", "spend=50 USD/month", "-l", "concurrent=20"]
    _, entry = create(capsys, "--name", "team", *args, "--expires", "2027-12-31", "--strict")
    found = load(entry).keys["team"]
    assert found.models == ("smart", "fast")
    assert (found.limits.requests, found.limits.tokens) == (Rate(600, "min"), Rate(200_000, "min"))
    assert (found.limits.spend, found.limits.concurrent) == (Rate(50 * 10**9, "month"), 20)
    assert found.strict
    assert found.expires is not None
    assert found.expires.isoformat() == "2028-01-01T00:00:00+00:00"


def test_a_key_may_be_made_for_later_with_limits_that_are_exact(capsys: pytest.CaptureFixture[str]) -> None:
    _, entry = create(capsys, "--name", "team", "--disabled", "--limits", "tokens=1k/min,strict=true,outage=closed")
    found = load(entry).keys["team"]
    assert (found.disabled, found.limits.strict, found.limits.outage) == (True, True, "closed")


@pytest.mark.parametrize("name", ["a b", "true", "x: y", "# x", '"', "*", "[a]", "ü", "null", "12"])
def test_any_name_is_written_so_that_it_is_read_back(capsys: pytest.CaptureFixture[str], name: str) -> None:
    _, entry = create(capsys, "--name", name)
    assert [str(one) for one in yaml.safe_load(entry)["keys"]] == [name]
    assert list(load(entry).keys) == [name]


def test_json_is_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["key", "create", "--name", "team", "--limits", "requests=1/s", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["keys"]["team"]["hash"] == "sha256:" + hashlib.sha256(found["key"].encode()).hexdigest()
    assert found["keys"]["team"]["limits"] == {"requests": "1/s"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "Missing option '--name'"),
        (["--name", "t", "--limits", "requests"], "--limits takes KIND=LIMIT"),
        (["--name", "t", "--limits", "requests=600"], "t.limits.requests: expected a rate such as 600/min"),
        (["--name", "t", "--limits", "request=600/min"], "did you mean 'requests'?"),
        (["--name", "t", "--limits", "requests=-1/min"], "a limit must be more than 0"),
        (["--name", "t", "--limits", "requests=1/s,requests=2/s"], "--limits has 'requests' twice"),
        (["--name", "t", "--limits", "spend=5 EUR/day"], "the unit is USD"),
        (["--name", "t", "--expires", "soon"], "t.expires: expected a date"),
        (["--name", "t", "--expires", "2020-02-29"], "t.expires: it ended at 2020-03-01T00:00:00Z, so that the key would never be taken"),
    ],
)
def test_a_mistake_is_one_line_and_makes_no_key(capsys: pytest.CaptureFixture[str], args: list[str], said: str) -> None:
    assert command.run(["key", "create", *args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("args", [["list"], ["revoke", "team"]])
def test_the_gateway_to_ask_may_come_from_the_environment(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCKGATE_ADMIN", "http://127.0.0.1:9")
    assert command.run(["key", *args]) == 1
    assert "no gateway answers at http://127.0.0.1:9" in capsys.readouterr().err
