"""`lockgate team` against a running gateway."""

from __future__ import annotations

from gateway.commands.team import team
from tests.commands.test_key_changes import Run, run

__all__ = ["run"]


async def test_a_team_is_created_listed_changed_and_removed(run: Run) -> None:
    code, out, err = await run("team", "create", "search", "--models", "m", "--limits", "spend=5 USD/month,tokens=2M/min")
    assert (code, out) == (0, "search is created\n")
    assert "lost on restart" in err
    _, out, _ = await run("team", "update", "search", "--limits", "tokens=none,requests=5/s")
    assert out.splitlines() == ["limits.tokens: removed (was 2M/min)", "limits.requests: added (5/s)", "search is updated"]
    assert (await run("team", "disable", "search"))[1] == "search is disabled\n"
    _, out, _ = await run("team", "list")
    name, source, state, models, limits, spent = out.strip("\n").split("\t")
    assert (name, source, state, models, limits) == ("search", "runtime", "disabled", "m", "requests 5/s, spend 5 USD/month")
    assert spent.startswith("spent 0.0000 of 5 USD until ")
    assert (await run("team", "enable", "search"))[1] == "search is enabled\n"
    assert (await run("key", "create", "--name", "app", "--team", "search"))[0] == 0
    code, _, err = await run("team", "remove", "search")
    assert (code, "The team 'search' has keys ('app')." in err) == (1, True)
    await run("key", "revoke", "app")
    assert (await run("team", "remove", "search"))[1] == "search is removed\n"


def test_every_subcommand_has_a_short_help() -> None:
    assert {name for name, command in team.commands.items() if command.short_help} == {
        "create", "list", "update", "enable", "disable", "remove",
    }  # fmt: skip
