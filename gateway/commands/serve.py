"""`lockgate serve`: serve callers."""

from __future__ import annotations

from typing import Any

import click

from gateway.commands.options import Duration, config_option

_Port = click.IntRange(0, 65535)
_GRACE_HELP = "Keep serving this long after SIGTERM while /readyz returns 503. Overrides grace."
_DRAIN_HELP = "Let calls in flight run this long before they are aborted. Overrides drain."


@click.command(short_help="Serve callers (the default command).")
@config_option
@click.option("--host", metavar="HOST", help="Listen on this address. Overrides listen.")
@click.option("--port", type=_Port, envvar="PORT", show_envvar=True, help="Port for callers. Overrides listen.")
@click.option(
    "--admin-port",
    type=_Port,
    envvar="ADMIN_PORT",
    show_envvar=True,
    help="Port of the admin listener. Overrides admin.listen.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    envvar="WORKERS",
    show_envvar=True,
    help="Number of serving processes.",
)
@click.option("--grace", type=Duration(), envvar="LOCKGATE_GRACE", show_envvar=True, help=_GRACE_HELP)
@click.option("--drain", type=Duration(), envvar="LOCKGATE_DRAIN", show_envvar=True, help=_DRAIN_HELP)
@click.option(
    "--log",
    type=click.Choice(["auto", "human", "json"]),
    default="auto",
    show_default=True,
    help="Format of the call log; auto means human on a terminal and JSON otherwise.",
)
def serve(config_path: str | None, workers: int, log: str, **over: Any) -> None:
    """Serve callers until interrupted. A SIGHUP or a change to the file reloads the configuration.

    \b
    lockgate serve
    lockgate serve --config my.yaml --workers 2
    PORT=9000 lockgate
    """
    from gateway.config import load as config
    from gateway.server.serve import run

    path = config_path or config.find_config_path()
    code = run(path, config.Overrides(**over), workers=workers, log=log)
    click.get_current_context().exit(code)
