"""`lockgate key update`, `rotate`, `enable` and `disable`: changes to keys that were created at run time."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.key import key as key
from gateway.commands.key import parse_limits
from gateway.commands.options import admin_option, json_option, not_blank
from gateway.commands.output import print_json, url_part

NONE = "none"
_NAMES_HELP = "Names separated by commas; `none` removes the setting."


@key.command(short_help="Change settings of a key that was created at run time.")
@click.argument("name")
@click.option("--models", metavar="A,B", callback=not_blank, help=f"Models that the key may use. {_NAMES_HELP}")
@click.option("--passthrough", metavar="A,B", callback=not_blank, help=f"Patterns of `passthrough` that the key may use. {_NAMES_HELP}")
@click.option(
    "--limits", "-l", multiple=True, metavar="KIND=LIMIT", callback=not_blank, help="Limits to set; `KIND=none` removes one. Others stay."
)
@click.option("--limits-per-user", multiple=True, metavar="KIND=LIMIT", callback=not_blank, help="Limits of each user, as in --limits.")
@click.option("--team", metavar="NAME", callback=not_blank, help="Team of the key; `none` for no team.")
@click.option("--expires", metavar="DATE", callback=not_blank, help="Last day on which the key is valid, UTC; `none` for no end.")
@click.option("--priority", metavar="NUMBER", help="Weight in the queues of targets, 1 to 1000; `none` for the default.")
@click.option("--strict/--no-strict", default=None, help="Whether to reject parameters that cannot be honoured.")
@admin_option
@json_option
def update(
    name: str,
    models: str | None,
    passthrough: str | None,
    limits: tuple[str, ...],
    limits_per_user: tuple[str, ...],
    team: str | None,
    expires: str | None,
    priority: str | None,
    strict: bool | None,
    url: str,
    as_json: bool,
) -> None:
    """Change the given settings of a key. All other settings stay as they are.

    \b
    lockgate key update app --limits requests=100/min,spend=none
    lockgate key update app --models smart,fast --expires none
    """
    fields = entry_changes(models=models, passthrough=passthrough, limits=limits, priority=priority)
    if limits_per_user:
        fields["limits_per_user"] = limit_changes(limits_per_user)
    fields |= {field: _or_null(text) for field, text in (("team", team), ("expires", expires)) if text is not None}
    if strict is not None:
        fields["strict"] = strict
    change("key", name, fields, url, as_json)


@key.command(short_help="Give a key a new secret.")
@click.argument("name")
@click.option(
    "--grace", metavar="DURATION", default="24h", show_default=True, help="Time for which the old secret stays valid; `0s` for none."
)
@admin_option
@json_option
def rotate(name: str, grace: str, url: str, as_json: bool) -> None:
    """Give a key a new secret and print it once. The old secret stays valid for the time given by --grace."""
    from gateway.commands.admin_client import request_json

    rotated = request_json("POST", url, f"{path_of('key', name)}/rotate", {"grace": grace})
    if as_json:
        print_json(rotated)
        return
    click.echo(rotated["key"])
    previous = rotated.get("previous", ())
    old = f"The old key is valid until {previous[-1]['until']}." if previous else "The old key is rejected within 2 s."
    click.echo(f"The new key is shown only once. {old}", err=True)


@key.command(short_help="Accept a disabled key again.")
@click.argument("name")
@admin_option
def enable(name: str, url: str) -> None:
    """Accept a disabled key again."""
    set_disabled("key", name, url, disabled=False)


@key.command(short_help="Reject a key until it is enabled.")
@click.argument("name")
@admin_option
def disable(name: str, url: str) -> None:
    """Reject a key until it is enabled. All gateways that share the store reject it within two seconds."""
    set_disabled("key", name, url, disabled=True)


def entry_changes(
    *, models: str | None, passthrough: str | None, limits: tuple[str, ...], priority: str | None = None
) -> dict[str, Any]:
    """Return the changes to the settings that keys and teams have, as a JSON Merge Patch."""
    fields: dict[str, Any] = {}
    for field, names in (("models", models), ("passthrough", passthrough)):
        if names is not None:
            listed = [name.strip() for name in names.split(",") if name.strip()]
            fields[field] = None if names.strip() == NONE else listed
    if limits:
        fields["limits"] = limit_changes(limits)
    if priority is not None:
        fields["priority"] = None if priority == NONE else _whole_number(priority)
    return fields


def _whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise click.BadParameter(f"'{text}' is not a whole number.", param_hint="'--priority'")
    return int(text)


def limit_changes(options: tuple[str, ...]) -> dict[str, Any]:
    """Return the changes to a block of limits: `none` removes a limit."""
    return {kind: None if limit == NONE else limit for kind, limit in parse_limits(options).items()}


def change(kind: str, name: str, fields: dict[str, Any], url: str, as_json: bool) -> None:
    """Change a key or team of a running gateway, and print what has changed."""
    from gateway.commands.admin_client import request_json

    if not fields:
        raise click.UsageError("nothing to change: give at least one option")
    answer = request_json("PATCH", url, path_of(kind, name), fields)
    if as_json:
        print_json(answer)
        return
    for path, value in answer["removed"].items():
        click.echo(f"{path}: removed (was {_text(value)})" if value != {} else f"{path}: removed")
    for path, values in answer["changed"].items():
        click.echo(f"{path}: {_text(values['from'])} -> {_text(values['to'])}")
    for path, value in answer["added"].items():
        click.echo(f"{path}: added ({_text(value)})" if value != {} else f"{path}: added")
    click.echo(f"{name} is updated")


def set_disabled(kind: str, name: str, url: str, *, disabled: bool) -> None:
    """Disable or enable a key or team of a running gateway."""
    from gateway.commands.admin_client import request_json

    request_json("PATCH", url, path_of(kind, name), {"disabled": disabled})
    click.echo(f"{name} is {'disabled' if disabled else 'enabled'}")


def path_of(kind: str, name: str) -> str:
    """Return the path of a key or team at the admin listener."""
    return f"/admin/{kind}s/{url_part(name)}"


def _or_null(text: str) -> str | None:
    return None if text == NONE else text


def _text(value: Any) -> str:
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
