"""The `lockgate` command: registers the commands and turns errors into exit codes.

Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 130 interrupted. After a user error, stderr states
what to change and contains no traceback.
"""

from __future__ import annotations

import os
from typing import Any

import click

from gateway.commands.calls import calls
from gateway.commands.catalog import catalog
from gateway.commands.check import check, schema
from gateway.commands.convert import convert
from gateway.commands.default import runs_serve
from gateway.commands.diff import diff
from gateway.commands.explain import explain
from gateway.commands.init import init
from gateway.commands.key_changes import key
from gateway.commands.limits import limits
from gateway.commands.models import models, pull
from gateway.commands.notify import notify
from gateway.commands.openapi import openapi
from gateway.commands.output import installed_version
from gateway.commands.route import route
from gateway.commands.serve import serve
from gateway.commands.targets import targets
from gateway.commands.team import team
from gateway.commands.top import top
from gateway.commands.usage import usage
from gateway.commands.version import completion, version

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(click.Group):
    """A group whose default command is serve: `lockgate --port 9000` means `lockgate serve --port 9000`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `serve` if there are no arguments, or if the first one is an option other than help and version."""
        completing = ctx.resilient_parsing and not args
        if not completing and runs_serve(args) and args[:1] != ["serve"]:
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of their registration: the most important ones come first."""
        return list(self.commands)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"lockgate {installed_version()}")
        ctx.exit()


@click.group(cls=Commands, context_settings=SETTINGS)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """One OpenAI-compatible URL for every model provider.

    Without a command, lockgate runs `lockgate serve`. `lockgate COMMAND --help` shows the options and examples of a command.

    \b
    lockgate                              serve config/gateway.yaml on 127.0.0.1:8080
    lockgate --config my.yaml --port 9000
    lockgate check my.yaml                list every mistake in a file
    """


for command in (
    serve,
    init,
    check,
    schema,
    openapi,
    explain,
    models,
    pull,
    version,
    completion,
    key,
    team,
    limits,
    targets,
    top,
    usage,
    calls,
    route,
    diff,
    convert,
    catalog,
    notify,
):
    cli.add_command(command)


def _print_error(error: click.ClickException) -> None:
    """Print an error as one line on stderr. For wrong usage, the line ends with the help command to run."""
    message = f"lockgate: {error.format_message()}"
    if isinstance(error, click.UsageError):
        message += f" (see: {error.ctx.command_path if error.ctx else 'lockgate'} --help)"
    click.echo(" ".join(message.split()), err=True)


def run(args: list[str]) -> int:
    """Run one command and return its exit code."""
    from gateway.config.problem import ConfigError

    try:
        colour = False if os.environ.get("NO_COLOR") else None  # None means colour only on a terminal
        code = cli.main(args, prog_name="lockgate", standalone_mode=False, color=colour)
        return code if isinstance(code, int) else 0
    except click.Abort:
        return 130
    except click.ClickException as error:
        _print_error(error)
        return error.exit_code
    except ConfigError as error:
        click.echo(str(error), err=True)
        return 2
