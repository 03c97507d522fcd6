"""The keys and teams of a configuration become virtual keys."""

from __future__ import annotations

import hashlib

import pytest

from gateway.config import load as config
from gateway.config.load import ConfigError
from gateway.keys.from_config import VirtualKeys
from gateway.keys.virtual_key import VirtualKey, may_use
from tests.support.each import each

FRAME = "providers: {local: {}}\nmodels: {smart: local/x, fast: local/y, 'wild-*': local/z}\n"
DIGESTS = {name: hashlib.sha256(f"lg-{name}-key".encode()).hexdigest() for name in "ab"}


def parsed(teams: str, keys: str) -> dict[str, VirtualKey]:
    """Return the virtual keys of a configuration by name."""
    found = config.parse(f"{FRAME}teams: {teams}\nkeys: {keys}\n".encode(), "g.yaml", environ={})
    return {each.name: each for each in VirtualKeys(found.keys.values(), found.teams).values()}


def key(name: str, more: str) -> str:
    """Return an entry of `keys:`."""
    return f"{{{name}: {{hash: 'sha256:{DIGESTS[name]}', {more}}}}}"


def test_a_key_has_its_own_limits_and_those_of_its_team() -> None:
    found = parsed("{search: {limits: {tokens: 9/min, spend: 1 USD/day}}}", key("a", "team: search, limits: {requests: 5/s}"))["a"]
    assert found.team == "search"
    assert [(limit.owner, str(limit)) for limit in found.limits] == [
        ("key:a", "5 requests per s"),
        ("team:search", "9 tokens per min"),
        ("team:search", "1 USD per day"),
    ]


def test_a_priority_is_that_of_the_key_else_of_its_team_else_100() -> None:
    teams = "{search: {priority: 20}, other: {}}"
    entries = [("team: search", 20), ("team: search, priority: 300", 300), ("team: other", 100), ("priority: 5", 5), ("strict: false", 100)]
    assert [parsed(teams, key("a", more))["a"].priority for more, _ in entries] == [priority for _, priority in entries]


def test_a_key_has_the_limits_of_models_of_its_own_and_of_its_team() -> None:
    team = "{search: {models: {'wild-*': {limits: {spend: [1 USD/day, 9 USD/total], timezone: Asia/Tokyo}}, smart: {}}}}"
    own = "{smart: {limits: {requests: [5/s, 7/min], outage: open}}, fast: {}, wild-1: {}}"
    found = parsed(team, key("a", f"team: search, strict: true, models: {own}"))["a"]
    limits = [(pattern, limit) for pattern, some in found.model_limits for limit in some]
    assert [(pattern, limit.owner, limit.model, str(limit)) for pattern, limit in limits] == [
        ("smart", "key:a", "smart", "5 requests per s"),
        ("smart", "key:a", "smart", "7 requests per min"),
        ("wild-*", "team:search", "wild-*", "1 USD per day (Asia/Tokyo)"),
        ("wild-*", "team:search", "wild-*", "9 USD in total"),
    ]
    assert [(limit.outage, limit.strict) for _, limit in limits] == [("open", True)] * 2 + [("local_share", False)] * 2
    assert found.limits == ()


@each(
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
        ("{smart: {}, fast: {limits: {requests: 1/h}}}", "", {"smart", "fast"}),
        ("{'wild-*': {}}", "{wild-1: {}, fast: {}}", {"wild-1"}),
        ("{smart: {limits: {requests: 1/h}}}", "[smart, fast]", {"smart"}),
        ("{}", "", set()),
    ],
)
def test_a_key_allows_the_models_that_its_team_allows_too(own: str, team: str, may: set[str]) -> None:
    found = parsed(f"{{t: {{{'models: ' + team if team else ''}}}}}", key("a", "team: t" + (f", models: {own}" if own else "")))["a"]
    assert {name for name in ("smart", "fast", "wild-1", "wild-2") if may_use(found, name)} == may


def test_a_disabled_team_disables_its_keys() -> None:
    assert parsed("{t: {disabled: true}}", key("a", "team: t"))["a"].disabled
    assert not parsed("{t: {disabled: true}, u: {}}", key("a", "team: u"))["a"].disabled


def test_a_key_whose_team_was_removed_is_disabled() -> None:
    entry = config.parse(f"{FRAME}teams: {{t: {{}}}}\nkeys: {key('a', 'team: t')}\n".encode(), "g.yaml", environ={}).keys["a"]
    (found,) = VirtualKeys([entry], {}).values()
    assert found.disabled


@each(
    ("teams", "keys", "message"),
    [
        ("{search: {}}", key("a", "team: serch"), "keys.a.team: no team 'serch' in this file, did you mean 'search'?"),
        ("{search: {models: [smrt]}}", "{}", "teams.search.models[0]: no model 'smrt' in this file, did you mean 'smart'?"),
        ("{search: {models: ['x*']}}", "{}", "teams.search.models[0]: no model 'x*' in this file"),
        ("{search: {limits: {requests: -1/min}}}", "{}", "teams.search.limits.requests: a limit must be more than 0"),
        ("{search: {limits: {requests: 1/min, requests: 2/min}}}", "{}", "teams.search.limits.requests: duplicate key"),
        ("{search: {limits: 5}}", "{}", "teams.search.limits: expected a mapping"),
    ],
)
def test_mistakes_in_teams_are_reported_with_their_place(teams: str, keys: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(teams, keys)
    assert message in str(caught.value)
