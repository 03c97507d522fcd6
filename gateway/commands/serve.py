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
@click.option("--demo", is_flag=True, help="Serve the local model and two scripted providers that fail on demand. See the page.")
def serve(config_path: str | None, workers: int, log: str, demo: bool, **over: Any) -> None:
    """Serve callers until interrupted. A SIGHUP or a change to the file reloads the configuration.

    \b
    lockgate serve
    lockgate serve --config my.yaml --workers 2
    lockgate serve --demo
    PORT=9000 lockgate
    """
    from gateway.server.gc_tuning import pause_collection

    pause_collection()
    from gateway.config import load as config
    from gateway.server.serve import run

    overrides = config.Overrides(**over)
    if demo:
        is_given = click.get_current_context().get_parameter_source("config_path") is click.core.ParameterSource.COMMANDLINE
        if is_given or workers > 1:
            raise click.UsageError("--demo has a configuration of its own and one worker: leave out --config and --workers")
        code = _run_demo(overrides, log)
    else:
        code = run(config_path or config.find_config_path(), overrides, workers=workers, log=log)
    click.get_current_context().exit(code)


def _run_demo(overrides: Any, log: str) -> int:
    """Serve the demo from a temporary folder, which also holds its records. Return the exit code."""
    import tempfile
    from contextlib import closing
    from pathlib import Path

    from gateway.demo.demo import Demo
    from gateway.server.serve import run

    with tempfile.TemporaryDirectory(prefix="lockgate-demo-") as folder, closing(Demo()) as demo:
        return run(str(demo.write(Path(folder))), overrides, log=log, demo=demo)
