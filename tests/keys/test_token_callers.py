"""Callers with a token: their virtual key, and the verified tokens that are remembered."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.config.issuer import PolicyConfig
from gateway.config.key import TeamConfig
from gateway.config.limit import LimitsConfig, Rate
from gateway.errors import Forbidden, InvalidToken, Unavailable
from gateway.keys import token_callers
from gateway.keys.token_callers import SigningKeyUnknownError, is_token
from tests.keys.tokens import Accepting, staff
from tests.support.each import each
from tests.support.issuer import move_clock

LIMITS = LimitsConfig(requests=(Rate(5, "min"),))


def test_a_token_gets_the_settings_of_its_policy() -> None:
    issuer = staff()
    policy = PolicyConfig(
        "dev", models=("smart",), passthrough=("/v1/audio/*",), team="search", tags=("chat",), strict=True, limits=LIMITS,
        limits_per_user=LIMITS, bring_credentials=("openai",), budget_brought_credentials=False, require_end_user=True,
    )  # fmt: skip
    accepting = Accepting(issuer, ("search",), policies={"dev": policy}, policy_claim="roles", user_claim="email")
    until = int(time.time()) + 600
    key = accepting(issuer.token(roles=["dev"], email="a@example.com", exp=until))
    assert (key.name, key.policy, key.team, key.end_user, key.tags) == ("staff/alice", "dev", "search", "a@example.com", ("chat",))
    assert (key.models, key.passthrough, key.strict, key.expires) == ({"smart"}, {"/v1/audio/*"}, True, until)
    assert [(limit.owner, limit.kind, limit.amount) for limit in key.limits] == [("key:staff/alice", "requests", 5)]
    assert (key.limits_per_user, key.bring_credentials, key.budgets_brought, key.requires_end_user) == (LIMITS, {"openai"}, False, True)


def test_an_issuer_without_policies_restricts_nothing() -> None:
    issuer = staff()
    key = Accepting(issuer)(issuer.token())
    assert (key.models, key.passthrough, key.limits, key.team, key.policy) == (None, None, (), "", "*")


@each(("names", "team"), [("search", "search"), (["none", "ops"], "ops"), (["ops", "search"], "ops")])
def test_the_first_known_team_of_a_token_applies(names: Any, team: str) -> None:
    issuer = staff()
    assert Accepting(issuer, ("search", "ops"), team_claim="team")(issuer.token(team=names)).team == team


def test_the_team_of_the_policy_applies_if_no_named_team_is_known() -> None:
    issuer = staff()
    accepting = Accepting(issuer, ("ops", "search"), team_claim="team", policies={"*": PolicyConfig("*", team="ops")})
    assert [accepting(issuer.token(team=name)).team for name in ("search", "none", None)] == ["search", "ops", "ops"]


def test_an_unknown_team_is_rejected_until_it_is_created() -> None:
    issuer = staff()
    accepting, token = Accepting(issuer, ("ops",), team_claim="team"), issuer.token(team="new")
    for _ in range(2):
        with pytest.raises(Forbidden, match="names no team of this gateway") as error:
            accepting(token)
        assert error.value.code == "team_unknown"
    accepting.callers.set_teams({"new": TeamConfig("new")}, complete=True)
    assert accepting(token).team == "new"


def test_a_team_cannot_be_checked_before_the_teams_are_known() -> None:
    issuer = staff()
    accepting = Accepting(issuer, team_claim="team")
    accepting.callers.set_teams({}, complete=False)
    with pytest.raises(Unavailable) as error:
        accepting(issuer.token(team="search"))
    assert error.value.code == "keys_unavailable"


def test_a_disabled_policy_or_team_rejects_its_callers() -> None:
    issuer = staff()
    with pytest.raises(Forbidden) as error:
        Accepting(issuer, policies={"*": PolicyConfig("*", disabled=True)})(issuer.token())
    assert error.value.code == "key_disabled"
    accepting, token = Accepting(issuer, ("search",), team_claim="team"), issuer.token(team="search")
    assert accepting(token).team == "search"
    accepting.callers.set_teams({"search": TeamConfig("search", disabled=True)}, complete=True)
    with pytest.raises(Forbidden):
        accepting(token)


def test_a_verified_token_is_not_verified_again_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer, now = staff(), time.time()
    accepting, token = Accepting(issuer), issuer.token(exp=int(now) + 60)
    verified: list[Any] = []
    verify = token_callers.verify
    monkeypatch.setattr(token_callers, "verify", lambda *given: verified.append(given) or verify(*given))
    keys = {id(accepting(token)) for _ in range(5)}
    assert (len(keys), len(verified)) == (1, 1)
    accepting.now = now + 89
    accepting(token)
    assert len(verified) == 1
    accepting.now = now + 91
    accepting(token)  # the clock of the verification has not reached the expiry
    assert len(verified) == 2


def test_an_expired_token_is_rejected_although_it_was_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = staff()
    accepting, token = Accepting(issuer), issuer.token(exp=int(time.time()) + 600)
    accepting(token)
    move_clock(monkeypatch, accepting.callers, 500)
    assert accepting(token).name == "staff/alice"
    move_clock(monkeypatch, accepting.callers, 631)
    with pytest.raises(InvalidToken) as error:
        accepting(token)
    assert error.value.code == "token_expired"


def test_new_keys_of_the_issuer_end_the_memory() -> None:
    issuer = staff()
    accepting, token = Accepting(issuer), issuer.token()
    accepting(token)
    issuer.private.clear()
    issuer.add_key("k2", "ES256", 2)
    accepting.source._use(issuer.keys().encode(), time.time())
    with pytest.raises(SigningKeyUnknownError):
        accepting(token)
    assert accepting(issuer.token()).name == "staff/alice"


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_callers, "MAX_REMEMBERED", 3)
    issuer = staff()
    accepting = Accepting(issuer)
    for number in range(5):
        accepting(issuer.token(sub=f"user-{number}"))
    assert [known.key.name for known in accepting.callers._verified.values()] == ["staff/user-2", "staff/user-3", "staff/user-4"]


def test_a_rejected_token_is_not_remembered() -> None:
    issuer = staff()
    accepting = Accepting(issuer)
    with pytest.raises(InvalidToken):
        accepting(issuer.token(aud="billing"))
    assert accepting.callers._verified == {}


def test_a_fetch_is_needed_before_the_first_keys_are_known() -> None:
    issuer = staff()
    accepting = Accepting(issuer)
    accepting.source.key_set = None
    with pytest.raises(SigningKeyUnknownError) as error:
        accepting(issuer.token())
    assert (error.value.refusal.status, error.value.refusal.code) == (503, "keys_unavailable")


def test_an_unknown_key_is_not_a_fault_of_the_token_while_the_issuer_is_unreachable() -> None:
    issuer = staff()
    accepting, token = Accepting(issuer), issuer.token(headers={"kid": "k2"})
    for has_failed, status in ((False, 401), (True, 503)):
        accepting.source.has_failed = has_failed
        with pytest.raises(SigningKeyUnknownError) as error:
            accepting(token)
        assert error.value.refusal.status == status


@each(
    ("text", "is_one"),
    [(b"eyJh.eyJi.c", True), (b"lg-abc", False), (b"a.b.c", False), (b"eyJh.eyJi", False), (b"eyJh.a.b.c.d", False), (b"", False)],
)
def test_a_token_is_recognized_by_its_form(text: bytes, is_one: bool) -> None:
    assert is_token(text) is is_one
