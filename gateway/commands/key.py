"""`lockgate key`: create, list, change, rotate and revoke virtual keys. The commands that change a key are in key_changes.py.

A new key is printed once. The configuration and the gateway contain only its SHA-256 digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.commands.options import admin_option, json_option, not_blank
from gateway.commands.output import print_json, url_part

if TYPE_CHECKING:
    from gateway.config.problem import Problem

KEY_PREFIX = "lg-"
CHECKED_FILE = "(the key)"
"""Placeholder for the file name in the problems of an entry."""

_LIMITS_HELP = "Limits such as requests=600/min, separated by commas or in several options; a kind may be repeated with another window."


@click.group(short_help="Create, list, change and revoke virtual keys.")
def key() -> None:
    """Create, list, change and revoke virtual keys. If the gateway requires an admin key, set LOCKGATE_ADMIN_KEY.

    \b
    lockgate key create --name search-team
    lockgate key create --name search-team --admin http://127.0.0.1:8081
    lockgate key list
    lockgate key update search-team --limits requests=100/min
    lockgate key rotate search-team --grace 24h
    lockgate key revoke search-team
    """


@key.command(short_help="Create a key and print it once.")
@click.option(
    "--name", required=True, metavar="NAME", help="Name of the key; appears in logs, metrics and error messages."
)
@click.option("--models", metavar="A,B", callback=not_blank, help="Models that the key may use. Default: all.")
@click.option(
    "--passthrough", metavar="A,B", callback=not_blank,
    help="Patterns of `passthrough` that the key may use. Default: all, or none with --models.",
)  # fmt: skip
@click.option("--limits", "-l", multiple=True, metavar="KIND=LIMIT", callback=not_blank, help=_LIMITS_HELP)
@click.option("--team", metavar="NAME", callback=not_blank, help="Team of the key.")
@click.option("--expires", metavar="DATE", callback=not_blank, help="Last day on which the key is valid, UTC.")
@click.option(
    "--priority", type=click.IntRange(1, 1000), help="Weight of the key in the queues of targets. Default: that of the team, else 100."
)
@click.option("--disabled", is_flag=True, help="Create the key disabled.")
@click.option(
    "--strict", is_flag=True, help="Reject (400) parameters that cannot be honoured, instead of adjusting them."
)
@click.option("--admin", "url", metavar="URL", help="Create the key in the running gateway with this admin listener.")
@json_option
def create(
    name: str,
    models: str | None,
    passthrough: str | None,
    limits: tuple[str, ...],
    team: str | None,
    expires: str | None,
    priority: int | None,
    disabled: bool,
    strict: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Create a key and print it once, with its entry for `keys:` in the YAML.

    With --admin, create it in a running gateway.

    \b
    lockgate key create --name search-team --models smart,fast
    lockgate key create --name intern --limits requests=600/min,tokens=200k/min,concurrent=20
    lockgate key create --name app --limits "spend=50 USD/month" --expires 2027-12-31
    """
    entry: dict[str, Any] = {}
    for field, names in (("models", models), ("passthrough", passthrough)):
        if names:
            entry[field] = [name.strip() for name in names.split(",") if name.strip()]
    if team:
        entry["team"] = team
    if limits:
        entry["limits"] = parse_limits(limits)
    if expires:
        entry["expires"] = expires
    if priority is not None:
        entry["priority"] = priority
    if disabled:
        entry["disabled"] = True
    if strict:
        entry["strict"] = True
    if url is not None:
        _create_in_gateway(url, {"name": name, **entry}, as_json)
    else:
        _create_for_yaml(name, entry, as_json)


def _create_in_gateway(url: str, entry: dict[str, Any], as_json: bool) -> None:
    from gateway.commands.admin_client import request_json

    created = request_json("POST", url, "/admin/keys", entry)
    if as_json:
        print_json(created)
        return
    click.echo(created["key"])
    click.echo(
        f"The key is shown only once. It is valid at {url} now, and within 2 s at all gateways that share the store.",
        err=True,
    )
    if "note" in created:
        click.echo(created["note"], err=True)


def _create_for_yaml(name: str, settings: dict[str, Any], as_json: bool) -> None:
    import hashlib
    import secrets

    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    entry: dict[str, Any] = {"hash": "sha256:" + hashlib.sha256(secret.encode()).hexdigest(), **settings}
    problems = check(name, entry)
    if problems:
        messages = [f"{problem.path.removeprefix('keys.')}: {problem.message}" for problem in problems]
        raise click.UsageError("; ".join(messages))
    if as_json:
        print_json({"key": secret, "keys": {name: entry}})
        return
    click.echo(f"{secret}\n")
    click.echo("The key is shown only once. Its entry for the configuration:\n", err=True)
    click.echo(as_yaml(name, entry))


@key.command("list", short_help="List the keys of a running gateway.")
@admin_option
@json_option
def list_keys(url: str, as_json: bool) -> None:
    """List the keys of a running gateway: those of its configuration and those created at run time."""
    from gateway.commands.admin_client import request_json

    response = request_json("GET", url, "/admin/keys")
    if as_json:
        print_json(response)
        return
    for entry in response["data"]:
        limits = ", ".join(f"{kind} {limit_text(limit)}" for kind, limit in entry.get("limits", {}).items())
        state = "disabled" if entry["disabled"] else _validity(entry["expires"]) if "expires" in entry else "valid"
        models = ",".join(entry.get("models", ["*"]))
        cells = [
            entry["name"],
            entry["source"],
            entry.get("shown", "-"),
            state,
            entry.get("team", "-"),
            models,
            limits or "-",
            spent_text(entry.get("usage")),
        ]
        click.echo("\t".join(cells))


def spent_text(usage: list[dict[str, Any]] | None) -> str:
    """Return the amount spent of each budget, and the end of the budget's period, as text."""
    if usage is None:
        return "spent ?"
    budgets = [state for state in usage if state["kind"] == "spend"]
    texts = [
        f"spent {state['spent']:.4f} of {state['limit']:g} USD"
        + (f" on {state['model']}" if state["model"] else "")
        + (f" until {state['reset_at']}" if state["reset_at"] else " in total")
        for state in budgets
    ]
    return ", ".join(texts) or "-"


def _validity(expires: str) -> str:
    from datetime import UTC, datetime

    return f"{'expired' if datetime.fromisoformat(expires) <= datetime.now(UTC) else 'until'} {expires}"


@key.command(short_help="Revoke a key that was created at run time.")
@click.argument("name")
@admin_option
def revoke(name: str, url: str) -> None:
    """Revoke a key that was created at run time.

    All gateways that share the store reject the key within two seconds.
    """
    from gateway.commands.admin_client import request_json

    request_json("DELETE", url, f"/admin/keys/{url_part(name)}")
    click.echo(f"{name} is revoked")


def limit_text(limit: Any) -> str:
    """Return a limit as one text, in which `and` joins the limits of several windows."""
    return " and ".join(limit) if isinstance(limit, list) else str(limit)


def parse_limits(options: tuple[str, ...]) -> dict[str, Any]:
    """Return the `limits` block that the options describe. A kind of limit that is repeated has several windows."""
    limits: dict[str, Any] = {}
    for pair in (part.strip() for option in options for part in option.split(",") if part.strip()):
        kind, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise click.UsageError(
                f"a limit must have the form KIND=LIMIT, such as requests=600/min, not '{pair[:60]}'"
            )
        if kind in limits and "/" in value:
            several = limits[kind] if isinstance(limits[kind], list) else [limits[kind]]
            limits[kind] = [*several, value]
            continue
        if kind in limits:
            raise click.UsageError(f"the limit '{kind[:60]}' is set twice: remove one of them")
        is_number = value.isascii() and value.isdigit() and len(value) < 10
        limits[kind] = int(value) if kind == "concurrent" and is_number else value
        if kind == "strict" and value in ("true", "false"):
            limits[kind] = value == "true"
    return limits


def check(name: str, entry: dict[str, Any]) -> tuple[Problem, ...]:
    """Return the problems of an entry.

    Models, their prices and passed paths are not checked, because they depend on the configuration.
    """
    import msgspec

    from gateway.config import load as config
    from gateway.config.check import check_new_key
    from gateway.config.problem import Problems, join

    entry = {field: value for field, value in entry.items() if field != "passthrough"}
    teams: dict[str, Any] = {entry["team"]: {}} if "team" in entry else {}
    document = {"providers": {"local": {}}, "models": {"*": "local/any"}, "teams": teams, "keys": {name: entry}}
    try:
        parsed = config.parse(msgspec.json.encode(document), CHECKED_FILE, environ={})
        problems = Problems(CHECKED_FILE)
        check_new_key(parsed.keys[name], join("keys", name), problems)
        problems.raise_if_any()
    except config.ConfigError as error:
        return error.problems
    return ()


def as_yaml(name: str, entry: dict[str, Any]) -> str:
    """Return the entry as readable YAML."""
    lines = ["keys:", f"  {_scalar(name)}:"]
    for field, value in entry.items():
        if isinstance(value, list):
            lines.append(f"    {field}: [{', '.join(_scalar(item) for item in value)}]")
        elif isinstance(value, dict):
            pairs = [f"{kind}: {_plain(limit)}" for kind, limit in value.items()]
            lines.append(f"    {field}: {{ {', '.join(pairs)} }}")
        else:
            lines.append(f"    {field}: {'true' if value is True else _scalar(value, field == 'hash')}")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    return _scalar(value) if isinstance(value, str) else str(value).lower()


def _scalar(text: str, quoted: bool = False) -> str:
    """Return a YAML string: plain if YAML reads it as a string, otherwise quoted as in JSON."""
    import re

    import msgspec

    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9._/ -]*(?<! )|[0-9][A-Za-z0-9./ -]*(?<! )", text)
    is_keyword = text.lower() in ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
    return text if plain and not is_keyword and not quoted else msgspec.json.encode(text).decode()
