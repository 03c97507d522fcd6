"""Keys and teams of a configuration as what calls are judged by."""

from __future__ import annotations

import hashlib

import pytest

from gateway.config import load as config
from gateway.config.load import ConfigError
from gateway.keys.authenticate import VirtualKey, may_use
from gateway.keys.from_config import resolve

FRAME = "providers: {local: {}}\nmodels: {smart: local/x, fast: local/y, 'wild-*': local/z}\n"
DIGESTS = {name: hashlib.sha256(f"lg-{name}-key".encode()).hexdigest() for name in "ab"}


def parsed(teams: str, keys: str) -> dict[str, VirtualKey]:
    """The keys of a file by name."""
    found = config.parse(f"{FRAME}teams: {teams}\nkeys: {keys}\n".encode(), "g.yaml", environ={})
    return {one.name: one for one in resolve(found.keys.values(), found.teams).values()}


def key(name: str, more: str) -> str:
    """An entry of a file."""
    return f"{{{name}: {{hash: 'sha256:{DIGESTS[name]}', {more}}}}}"


def test_a_key_carries_its_own_limits_and_its_teams() -> None:
    found = parsed("{search: {limits: {tokens: 9/min, spend: 1 USD/day}}}", key("a", "team: search, limits: {requests: 5/s}"))["a"]
    assert found.team == "search"
    assert [(limit.owner, str(limit)) for limit in found.limits] == [
        ("key:a", "5 requests per s"),
        ("team:search", "9 tokens per min"),
        ("team:search", "1 USD per day"),
    ]


@pytest.mark.parametrize(
    ("own", "team", "may"),
    [
        ("", "", {"smart", "fast", "wild-1", "wild-2"}),
        ("[smart, fast]", "", {"smart", "fast"}),
        ("", "[fast]", {"fast"}),
        ("[smart, fast]", "[fast, wild-1]", {"fast"}),
        ("[smart]", "[fast]", set()),
        ("['wild-*']", "[wild-1, fast]", {"wild-1"}),
        ("[wild-2, fast]", "['wild-*']", {"wild-2"}),
        ("['s*']", "", {"smart"}),
        ("['*']", "['f*']", {"fast"}),
    ],
)
def test_a_key_may_ask_for_what_its_team_may_too(own: str, team: str, may: set[str]) -> None:
    found = parsed(f"{{t: {{{'models: ' + team if team else ''}}}}}", key("a", "team: t" + (f", models: {own}" if own else "")))["a"]
    assert {name for name in ("smart", "fast", "wild-1", "wild-2") if may_use(found, name)} == may


def test_a_disabled_team_disables_its_keys() -> None:
    assert parsed("{t: {disabled: true}}", key("a", "team: t"))["a"].disabled
    assert not parsed("{t: {disabled: true}, u: {}}", key("a", "team: u"))["a"].disabled


@pytest.mark.parametrize(
    ("teams", "keys", "said"),
    [
        ("{search: {}}", key("a", "team: serch"), "keys.a.team: no team 'serch' in this file, did you mean 'search'?"),
        ("{search: {models: [smrt]}}", "{}", "teams.search.models[0]: no model 'smrt' in this file, did you mean 'smart'?"),
        ("{search: {models: ['x*']}}", "{}", "teams.search.models[0]: no model 'x*' in this file"),
        ("{search: {limits: {requests: -1/min}}}", "{}", "teams.search.limits.requests: a limit must be more than 0"),
        ("{search: {limits: {requests: 1/min, requests: 2/min}}}", "{}", "teams.search.limits.requests: duplicate key"),
        ("{search: {limits: 5}}", "{}", "teams.search.limits: expected a mapping"),
    ],
)
def test_what_is_wrong_with_teams_is_told(teams: str, keys: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(teams, keys)
    assert said in str(caught.value)
