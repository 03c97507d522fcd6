"""`lockgate route`: show where calls for a model, or for a passed path, would go.

The command uses the same router as the server and calls no upstream.
"""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.options import json_option
from gateway.commands.output import print_json, read_file


@click.command(short_help="Show where calls for a model would go.")
@click.argument("model")
@click.option(
    "-c",
    "--config",
    "config_path",
    metavar="FILE",
    envvar="LOCKGATE_CONFIG",
    show_envvar=True,
    help="Configuration file.",
)
@click.option("--admin", "url", metavar="URL", help="Ask the running gateway with this admin listener.")
@click.option(
    "--n", "count", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Number of simulated calls."
)
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Header of the calls; may be repeated."
)
@click.option("--user", metavar="NAME", help="Value of the field `user` in the calls.")
@click.option(
    "--file",
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="JSON body of the calls (- is stdin). Default: short chats.",
)
@click.option(
    "--require-parameters", is_flag=True, help="Act as if the calls had sent x-gateway-require-parameters: true."
)
@json_option
def route(
    model: str,
    config_path: str | None,
    url: str | None,
    count: int,
    headers: tuple[str, ...],
    user: str | None,
    file: str | None,
    require_parameters: bool,
    as_json: bool,
) -> None:
    """Show the route of MODEL and how --n simulated calls are distributed over its targets.

    \b
    lockgate route smart
    lockgate route smart --n 10000 --header x-session-id:42
    lockgate route smart --file request.json --require-parameters
    lockgate route smart --admin http://127.0.0.1:8081
    lockgate route /v1/audio/speech

    MODEL may be a path that `passthrough` declares.

    With --admin, targets in cooldown come last, with the remaining time. If the gateway requires an admin key, set
    LOCKGATE_ADMIN_KEY.
    """
    from gateway.explain.path import path_text
    from gateway.explain.text import route_text

    query = {"model": model, "n": count, "headers": _parse_headers(headers), "user": user, "body": _read_body(file)}
    query["require_parameters"] = require_parameters
    plan = _plan_of_gateway(url, query) if url else _plan_of_file(config_path, query)
    if as_json:
        print_json(plan)
    else:
        click.echo(path_text(plan) if "pattern" in plan else route_text(plan))


def _plan_of_file(path: str | None, query: dict[str, Any]) -> Any:
    """Return the plan according to a configuration file."""
    import asyncio

    from gateway.commands.dry_run import dry_run_generation
    from gateway.errors import GatewayError
    from gateway.explain.path import plan_path
    from gateway.explain.route import error_text, plan_route, simulated_bodies

    generation = dry_run_generation(path)
    bodies = simulated_bodies(query["model"], query["n"], query["user"], query["body"])
    try:
        if (plan := plan_path(generation.pipeline.passed, query["model"])) is not None:
            return plan
        planning = plan_route(
            generation.router,
            generation.config,
            query["model"],
            bodies,
            query["headers"],
            require_parameters=query["require_parameters"],
        )
        return asyncio.run(planning)
    except GatewayError as error:
        raise click.ClickException(error_text(error)) from None


def _plan_of_gateway(url: str, query: dict[str, Any]) -> Any:
    """Return the plan of a running gateway, which takes the health of its targets into account."""
    from gateway.commands.admin_client import request_json

    plan = request_json("POST", url, "/admin/route", query)
    if "refused" in plan:
        raise click.ClickException(plan["refused"])
    return plan


def _parse_headers(options: tuple[str, ...]) -> dict[str, str]:
    headers = {}
    for line in options:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not line.isascii():
            raise click.UsageError(
                f"--header must have the form NAME:VALUE in ASCII, such as x-session-id:42, not '{line[:60]}'"
            )
        headers[name.strip()] = value.strip()
    return headers


def _read_body(file: str | None) -> dict[str, Any] | None:
    """Return the JSON object of a file; None without a file."""
    import msgspec

    from gateway.errors import BadRequest
    from gateway.http.json_body import parse_body

    if file is None:
        return None
    source = read_file(file)
    try:
        parse_body(source)
        body: dict[str, Any] = msgspec.json.decode(source)
    except BadRequest as error:
        raise click.UsageError(f"cannot read {file}: {error.message}") from None
    except msgspec.DecodeError as error:  # a value such as 1e999
        raise click.UsageError(f"cannot read {file}: {error}") from None
    return body
