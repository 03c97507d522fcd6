"""Options that several commands share, and the parameter type for durations."""

from __future__ import annotations

from typing import Any

import click

ADMIN_URL = "http://127.0.0.1:8081"
CONFIG_HELP = (
    "Configuration file. Default: $LOCKGATE_CONFIG, else ./config/gateway.yaml, else ./gateway.yaml, "
    "else a built-in configuration with the local model."
)


def config_option(command: Any) -> Any:
    """Add --config."""
    return click.option(
        "-c",
        "--config",
        "config_path",
        metavar="FILE",
        type=click.Path(),
        envvar="LOCKGATE_CONFIG",
        show_envvar=True,
        help=CONFIG_HELP,
    )(command)


def allow_absent_option(command: Any) -> Any:
    """Add --allow-absent, for machines that lack the production secrets."""
    return click.option(
        "--allow-absent",
        is_flag=True,
        help="List variables that are not set and files that do not exist, instead of rejecting the configuration. Use it "
        "where the production secrets are not available.",
    )(command)


def not_blank(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return the value of an option, or raise BadParameter if it is blank.

    The value is often a variable of a script. If the variable is not set, the key must not lose a restriction or a limit.
    """
    for text in value if isinstance(value, tuple) else (value,):
        if text is not None and not text.replace(",", "").strip():
            raise click.BadParameter("the value is empty. Leave the option out if you do not need it.")
    return value


def json_option(command: Any) -> Any:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def admin_option(command: Any) -> Any:
    """Add --admin, the URL of the running gateway's admin listener."""
    return click.option(
        "--admin",
        "url",
        metavar="URL",
        default=ADMIN_URL,
        show_default=True,
        envvar="LOCKGATE_ADMIN",
        show_envvar=True,
        help="URL of the admin listener.",
    )(command)


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A duration such as `5s`, `2m` or `0`, converted to seconds."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds. A malformed value is a usage error, with the same message as in the configuration."""
        from gateway.config.formats import read_pause

        try:
            return value if isinstance(value, float) else read_pause(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
