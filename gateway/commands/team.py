"""`lockgate team`: create, list, change and remove teams in a running gateway."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.key import limit_text, parse_limits, spent_text
from gateway.commands.key_changes import change, entry_changes, path_of, set_disabled
from gateway.commands.options import admin_option, json_option, not_blank
from gateway.commands.output import print_json


@click.group(short_help="Create, list, change and remove teams.")
def team() -> None:
    """Create, list, change and remove teams in a running gateway. If it requires an admin key, set LOCKGATE_ADMIN_KEY.

    \b
    lockgate team create search --limits "spend=500 USD/month"
    lockgate key create --name app --team search --admin http://127.0.0.1:8081
    lockgate team update search --limits tokens=2M/min
    lockgate team list
    """


def _settings(command: Any) -> Any:
    """Add the options for the settings of a team."""
    for option in (
        click.option(
            "--limits", "-l", multiple=True, metavar="KIND=LIMIT", callback=not_blank, help="Limits of all keys of the team together."
        ),
        click.option("--passthrough", metavar="A,B", callback=not_blank, help="Patterns of `passthrough` that the team may use."),
        click.option("--models", metavar="A,B", callback=not_blank, help="Models that the team may use."),
        click.option("--priority", metavar="NUMBER", help="Priority of keys that have none of their own, 1 to 1000."),
    ):
        command = option(command)
    return command


@team.command(short_help="Create a team.")
@click.argument("name")
@_settings
@admin_option
@json_option
def create(
    name: str,
    models: str | None,
    passthrough: str | None,
    limits: tuple[str, ...],
    priority: str | None,
    url: str,
    as_json: bool,
) -> None:
    """Create a team in a running gateway."""
    from gateway.commands.admin_client import request_json

    entry = entry_changes(models=models, passthrough=passthrough, limits=(), priority=priority)
    if limits:
        entry["limits"] = parse_limits(limits)
    created = request_json("POST", url, "/admin/teams", {"name": name, **entry})
    if as_json:
        print_json(created)
        return
    click.echo(f"{name} is created")
    if "note" in created:
        click.echo(created["note"], err=True)


@team.command("list", short_help="List the teams of a running gateway.")
@admin_option
@json_option
def list_teams(url: str, as_json: bool) -> None:
    """List the teams of a running gateway: those of its configuration and those created at run time."""
    from gateway.commands.admin_client import request_json

    response = request_json("GET", url, "/admin/teams")
    if as_json:
        print_json(response)
        return
    for entry in response["data"]:
        limits = ", ".join(f"{kind} {limit_text(limit)}" for kind, limit in entry.get("limits", {}).items())
        state = "disabled" if entry["disabled"] else "valid"
        models = ",".join(entry.get("models", ["*"]))
        click.echo("\t".join([entry["name"], entry["source"], state, models, limits or "-", spent_text(entry.get("usage"))]))


@team.command(short_help="Change settings of a team that was created at run time.")
@click.argument("name")
@_settings
@admin_option
@json_option
def update(
    name: str,
    models: str | None,
    passthrough: str | None,
    limits: tuple[str, ...],
    priority: str | None,
    url: str,
    as_json: bool,
) -> None:
    """Change the given settings of a team. All others stay as they are; `none` removes a setting, `KIND=none` a limit."""
    change("team", name, entry_changes(models=models, passthrough=passthrough, limits=limits, priority=priority), url, as_json)


@team.command(short_help="Accept the keys of a disabled team again.")
@click.argument("name")
@admin_option
def enable(name: str, url: str) -> None:
    """Accept the keys of a disabled team again."""
    set_disabled("team", name, url, disabled=False)


@team.command(short_help="Reject all keys of a team.")
@click.argument("name")
@admin_option
def disable(name: str, url: str) -> None:
    """Reject all keys of a team until it is enabled."""
    set_disabled("team", name, url, disabled=True)


@team.command(short_help="Remove a team that no key uses.")
@click.argument("name")
@admin_option
def remove(name: str, url: str) -> None:
    """Remove a team that was created at run time and that no key uses."""
    from gateway.commands.admin_client import request_json

    request_json("DELETE", url, path_of("team", name))
    click.echo(f"{name} is removed")
