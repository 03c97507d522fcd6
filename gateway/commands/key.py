"""`lockgate key`: make virtual keys, for the YAML or in a gateway that runs. A key is printed once and kept nowhere, only its SHA-256."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.config.problem import Problem

PREFIX = "lg-"
PATH = "(the key)"


ADMIN = "http://127.0.0.1:8081"
_URL = click.option(
    "--admin", "url", metavar="URL", default=ADMIN, show_default=True, envvar="LOCKGATE_ADMIN", show_envvar=True, help="Its admin listener."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Make, list and revoke keys for callers.")
def key() -> None:
    """Make, list and revoke keys for callers. The admin key, where one is needed, is taken from LOCKGATE_ADMIN_KEY.

    \b
    lockgate key create --name search-team
    lockgate key create --name search-team --admin http://127.0.0.1:8081
    lockgate key list
    lockgate key revoke search-team
    """


@key.command(short_help="Make a key; print it once, and its entry for the YAML.")
@click.option("--name", required=True, metavar="NAME", help="Who it is for: shown in logs, metrics and refusals.")
@click.option("--models", metavar="A,B", help="The models it may ask for; all when left out.")
@click.option(
    "--limits", "-l", multiple=True, metavar="KIND=LIMIT", help="For example requests=600/min; may be repeated or joined by commas."
)
@click.option("--team", metavar="NAME", help="The team that it belongs to.")
@click.option("--expires", metavar="DATE", help="The last day on which it is taken, UTC.")
@click.option("--disabled", is_flag=True, help="Not good yet: until it is enabled it is refused.")
@click.option("--strict", is_flag=True, help="Refuse (400) what cannot be honoured instead of adjusting it.")
@click.option("--admin", "url", metavar="URL", help="Make it in the gateway that has this admin listener; it is good at once.")
@_JSON
def create(
    name: str,
    models: str | None,
    limits: tuple[str, ...],
    team: str | None,
    expires: str | None,
    disabled: bool,
    strict: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Make a key and print it, once, with the entry that goes under `keys:` in the YAML; or, with --admin, in a running gateway.

    \b
    lockgate key create --name search-team --models smart,fast
    lockgate key create --name intern --limits requests=600/min,tokens=200k/min,concurrent=20
    lockgate key create --name app --limits "spend=50 USD/month" --expires 2027-12-31
    """
    entry: dict[str, Any] = {}
    if models:
        entry["models"] = [one.strip() for one in models.split(",") if one.strip()]
    if team:
        entry["team"] = team
    if limits:
        entry["limits"] = _limits(limits)
    if expires:
        entry["expires"] = expires
    if disabled:
        entry["disabled"] = True
    if strict:
        entry["strict"] = True
    if url is not None:
        _create_there(url, {"name": name, **entry}, as_json)
    else:
        _create_here(name, entry, as_json)


def _create_there(url: str, asked: dict[str, Any], as_json: bool) -> None:
    from gateway.commands.admin_client import ask

    made = ask("POST", url, "/admin/keys", asked)
    if as_json:
        _print_json(made)
        return
    click.echo(made["key"])
    click.echo(f"The key is shown this once. The gateway at {url} takes it from now on, all that share its store within 2 s.", err=True)
    if "note" in made:
        click.echo(made["note"], err=True)


def _print_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _create_here(name: str, asked: dict[str, Any], as_json: bool) -> None:
    import hashlib
    import secrets

    secret = PREFIX + secrets.token_urlsafe(32)
    entry: dict[str, Any] = {"hash": "sha256:" + hashlib.sha256(secret.encode()).hexdigest(), **asked}
    problems = check(name, entry)
    if problems:
        raise click.UsageError("; ".join(f"{one.path.removeprefix('keys.')}: {one.message}" for one in problems))
    if as_json:
        _print_json({"key": secret, "keys": {name: entry}})
        return
    click.echo(f"{secret}\n")
    click.echo("The key is shown this once. Its entry for the configuration:\n", err=True)
    click.echo(as_yaml(name, entry))


@key.command("list", short_help="Show the keys of a running gateway.")
@_URL
@_JSON
def show(url: str, as_json: bool) -> None:
    """Show the keys that a running gateway knows: those of its configuration, and those made at run time."""
    from gateway.commands.admin_client import ask

    found = ask("GET", url, "/admin/keys")
    if as_json:
        _print_json(found)
        return
    for one in found["data"]:
        limits = ", ".join(f"{kind} {limit}" for kind, limit in one.get("limits", {}).items())
        state = "disabled" if one["disabled"] else _until(one["expires"]) if "expires" in one else "good"
        models = ",".join(one.get("models", ["*"]))
        click.echo("\t".join([one["name"], one["source"], one.get("shown", "-"), state, one.get("team", "-"), models, limits or "-"]))


def _until(expires: str) -> str:
    from datetime import UTC, datetime

    return f"{'ended' if datetime.fromisoformat(expires) <= datetime.now(UTC) else 'until'} {expires}"


@key.command(short_help="Revoke a key that was made at run time.")
@click.argument("name")
@_URL
def revoke(name: str, url: str) -> None:
    """Revoke a key that was made at run time: it is refused everywhere within two seconds."""
    from urllib.parse import quote

    from gateway.commands.admin_client import ask

    ask("DELETE", url, f"/admin/keys/{quote(name, safe='')}")
    click.echo(f"{name} is revoked")


def _limits(given: tuple[str, ...]) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {}
    for pair in (one.strip() for text in given for one in text.split(",") if one.strip()):
        kind, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise click.UsageError(f"--limits takes KIND=LIMIT, for example requests=600/min; got '{pair[:60]}'")
        if kind in found:
            raise click.UsageError(f"--limits has '{kind[:60]}' twice")
        found[kind] = int(value) if kind == "concurrent" and value.isascii() and value.isdigit() and len(value) < 10 else value
        if kind == "strict" and value in ("true", "false"):
            found[kind] = value == "true"
    return found


def check(name: str, entry: dict[str, Any]) -> tuple[Problem, ...]:
    """What the configuration would say of such a key. Models that it names, and what they cost, are the file's own business."""
    import msgspec

    from gateway.config import load as config
    from gateway.config.check import check_new_key
    from gateway.config.problem import Problems, join

    teams: dict[str, Any] = {entry["team"]: {}} if "team" in entry else {}
    document = {"providers": {"local": {}}, "models": {"*": "local/any"}, "teams": teams, "keys": {name: entry}}
    try:
        found = config.parse(msgspec.json.encode(document), PATH, environ={})
        problems = Problems(PATH)
        check_new_key(found.keys[name], join("keys", name), problems)
        problems.raise_if_any()
    except config.ConfigError as error:
        return error.problems
    return ()


def as_yaml(name: str, entry: dict[str, Any]) -> str:
    """The entry as a person would write it."""
    lines = ["keys:", f"  {_scalar(name)}:"]
    for field, value in entry.items():
        if isinstance(value, list):
            lines.append(f"    {field}: [{', '.join(_scalar(one) for one in value)}]")
        elif isinstance(value, dict):
            pairs = [f"{kind}: {_plain(limit)}" for kind, limit in value.items()]
            lines.append(f"    {field}: {{ {', '.join(pairs)} }}")
        else:
            lines.append(f"    {field}: {'true' if value is True else _scalar(value, field == 'hash')}")
    return "\n".join(lines)


def _plain(value: str | int | bool) -> str:
    return _scalar(value) if isinstance(value, str) else str(value).lower()


def _scalar(text: str, quoted: bool = False) -> str:
    """Plain where that cannot be read as anything else, JSON's quotes (which are YAML's too) otherwise."""
    import re

    import msgspec

    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9._/ -]*(?<! )|[0-9][A-Za-z0-9./ -]*(?<! )", text)
    word = text.lower() in ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
    return text if plain and not word and not quoted else msgspec.json.encode(text).decode()
