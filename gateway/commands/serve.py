"""`lockgate serve`: the options of a process that serves, and the options that several commands share."""

from __future__ import annotations

from typing import Any

import click

CONFIG_HELP = "The YAML file. Without it: $LOCKGATE_CONFIG, ./config/gateway.yaml, else a built-in configuration with the local model."


def config_option(command: Any) -> Any:
    """--config."""
    return click.option(
        "-c", "--config", "config_path", metavar="FILE", type=click.Path(), envvar="LOCKGATE_CONFIG", show_envvar=True, help=CONFIG_HELP
    )(command)


def json_option(command: Any) -> Any:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


class Duration(click.ParamType):  # type: ignore[type-arg]
    """`5s`, `2m`, `0`: seconds."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds, or a usage error in the configuration's words."""
        from gateway.config.formats import read_pause

        try:
            return value if isinstance(value, float) else read_pause(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_Port = click.IntRange(0, 65535)
_GRACE = "After SIGTERM, serve so long while /readyz says 503, instead of the file's grace."
_DRAIN = "Then let calls in flight go on so long, instead of the file's drain."


@click.command(short_help="Answer callers (the default command).")
@config_option
@click.option("--host", metavar="HOST", help="Listen here instead of the file's listen.")
@click.option("--port", type=_Port, envvar="PORT", show_envvar=True, help="The callers' port, instead of the file's.")
@click.option("--admin-port", type=_Port, envvar="ADMIN_PORT", show_envvar=True, help="The admin port, instead of the file's.")
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, envvar="WORKERS", show_envvar=True, help="Serving processes."
)
@click.option("--grace", type=Duration(), envvar="LOCKGATE_GRACE", show_envvar=True, help=_GRACE)
@click.option("--drain", type=Duration(), envvar="LOCKGATE_DRAIN", show_envvar=True, help=_DRAIN)
@click.option(
    "--log",
    type=click.Choice(["auto", "human", "json"]),
    default="auto",
    show_default=True,
    help="How calls are logged; auto is human on a terminal and JSON otherwise.",
)
def serve(config_path: str | None, workers: int, log: str, **over: Any) -> None:
    """Serve callers until interrupted. SIGHUP, or a change of the file, loads it again.

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
