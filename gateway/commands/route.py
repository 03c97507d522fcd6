"""`lockgate route`: where calls for a model would go, by the serving path's own code, without calling anyone."""

from __future__ import annotations

from typing import Any

import click


@click.command(short_help="Show where calls for a model would go.")
@click.argument("model")
@click.option("-c", "--config", "config_path", metavar="FILE", envvar="LOCKGATE_CONFIG", show_envvar=True, help="The YAML file.")
@click.option("--admin", "url", metavar="URL", help="Ask a running gateway's admin listener: by its configuration, and the health it sees.")
@click.option("--n", "count", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="How many calls to draw.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header of these calls; may be repeated.")
@click.option("--user", metavar="NAME", help="The field user of these calls.")
@click.option("--file", metavar="FILE", type=click.Path(allow_dash=True), help="Their JSON body (- is stdin); else short chats.")
@click.option("--require-parameters", is_flag=True, help="As if they had sent x-gateway-require-parameters: true.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def route(
    model: str, config_path: str | None, url: str | None, count: int, headers: tuple[str, ...], user: str | None, file: str | None,
    require_parameters: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show where calls for MODEL would go: the route with its reasons, and where --n calls of them end up first.

    \b
    lockgate route smart
    lockgate route smart --n 10000 --header x-session-id:42
    lockgate route smart --file request.json --require-parameters
    lockgate route smart --admin http://127.0.0.1:8081

    With --admin (its key from LOCKGATE_ADMIN_KEY), targets that cool come last and say until when.
    """
    import msgspec

    from gateway.explain.route import show

    asked = {"model": model, "n": count, "headers": _headers(headers), "user": user, "body": _body(file)}
    asked["require_parameters"] = require_parameters
    found = _running(url, asked) if url else _written(config_path, asked)
    click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() if as_json else show(found))


def _written(path: str | None, asked: dict[str, Any]) -> Any:
    """The plan by a file alone."""
    from gateway.config import load as config
    from gateway.errors import GatewayError
    from gateway.explain.route import bodies, plan, refused
    from gateway.runtime.gateway import Gateway
    from gateway.telemetry.call_log import CallLog

    gateway = Gateway(config.load(path or config.find_config_path()), CallLog(2, human=True), lambda line: None)
    try:
        calls = bodies(asked["model"], asked["n"], asked["user"], asked["body"])
        return plan(gateway.generation, asked["model"], calls, asked["headers"], require=asked["require_parameters"])
    except GatewayError as error:
        raise click.ClickException(refused(error)) from None


def _running(url: str, asked: dict[str, Any]) -> Any:
    """The plan of a running gateway, by its own configuration and with its targets as they are."""
    from gateway.commands.admin_client import ask

    found = ask("POST", url, "/admin/route", asked)
    if "refused" in found:
        raise click.ClickException(found["refused"])
    return found


def _headers(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for line in given:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not line.isascii():
            raise click.UsageError(f"--header takes NAME:VALUE, for example x-session-id:42; got '{line[:60]}'")
        found[name.strip()] = value.strip()
    return found


def _body(file: str | None) -> dict[str, Any] | None:
    """What the file holds; None without one."""
    import msgspec

    if file is None:
        return None
    try:
        with click.open_file(file, "rb") as source:
            body = msgspec.json.decode(source.read())
    except (OSError, msgspec.DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise click.UsageError(f"cannot read {file}: {reason}") from None
    if not isinstance(body, dict):
        raise click.UsageError(f"{file} is not a JSON object")
    return body
