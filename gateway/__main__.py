"""The command line: `lockgate` serves, and its other commands check, show and explain without serving.

Exit codes: 0 done, 1 failed, 2 used or configured wrongly, 130 interrupted. Whatever a user can get wrong ends in lines on stderr that
say what to change, never in a traceback. Everything heavy is imported by the command that needs it, so that help is immediate.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gateway.commands.diff import diff
from gateway.commands.key import key
from gateway.commands.route import route
from gateway.commands.serve import config_option, json_option, serve
from gateway.commands.targets import targets
from gateway.commands.top import top
from gateway.commands.usage import usage

if TYPE_CHECKING:
    from gateway.config.load import Config

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Failed(click.ClickException):
    """The command was used rightly and could not do its work: exit code 1."""


class Commands(click.Group):
    """A group whose default command is serve: `lockgate --port 9000` is `lockgate serve --port 9000`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `serve` in front of a call that names no command."""
        completing = ctx.resilient_parsing and not args
        if not completing and (not args or (args[0].startswith("-") and args[0] not in ("-h", "--help", "--version"))):
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a first day with the program, not of the alphabet."""
        return list(self.commands)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"lockgate {_version()}")
        ctx.exit()


@click.group(cls=Commands, context_settings=SETTINGS)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version and exit.")
def cli() -> None:
    """One OpenAI-compatible URL in front of every model provider.

    Without a command, serve. `lockgate COMMAND --help` shows a command's options with examples.

    \b
    lockgate                              serve config/gateway.yaml on 127.0.0.1:8080
    lockgate --config my.yaml --port 9000
    lockgate check my.yaml                name every mistake in a file
    """


cli.add_command(serve)


@cli.command(short_help="Name every mistake in a configuration.")
@click.argument("file", required=False, type=click.Path())
@json_option
def check(file: str | None, as_json: bool) -> None:
    """Check FILE and everything it refers to, without serving or calling anyone.

    Every problem is one line, FILE:LINE:COLUMN: PATH: MESSAGE, and the exit code is 2.

    \b
    lockgate check
    lockgate check my.yaml --json
    """
    from gateway.config import load as config

    path = file or config.find_config_path()
    try:
        found = config.load(path)
    except config.ConfigError as error:
        if not as_json:
            raise
        _print_json({"ok": False, "file": path, "problems": [_fields(problem) for problem in error.problems]})
        click.get_current_context().exit(2)
    counts = {"providers": len(found.providers), "models": len(found.models), "keys": len(found.keys)}
    if as_json:
        _print_json({"ok": True, "file": path, "problems": [], **counts})
    else:
        said = ", ".join(f"{count} {word if count != 1 else word[:-1]}" for word, count in counts.items())
        click.echo(f"{path}: {click.style('ok', fg='green')} ({said})")


@cli.command(short_help="Print the JSON Schema of the configuration.")
@click.option("--markdown", is_flag=True, help="Print the configuration reference as Markdown instead.")
def schema(markdown: bool) -> None:
    """Print the JSON Schema of the configuration, for editors and for checks without this program.

    \b
    lockgate schema > schema.json
    lockgate schema --markdown > configuration.md
    """
    from gateway.config.reference import reference
    from gateway.config.schema import schema_text

    click.echo(reference() if markdown else schema_text(), nl=False)


@cli.command(short_help="Show what would be sent for a request, and to whom.")
@click.argument("file", type=click.Path(allow_dash=True))
@config_option
@click.option("--strict", is_flag=True, help="Plan as if the caller had sent x-gateway-strict: true.")
@click.option("--table", "as_table", is_flag=True, help="Print text for people instead of JSON.")
def explain(file: str, config_path: str | None, strict: bool, as_table: bool) -> None:
    """Show the whole plan for the request body in FILE (- is stdin) as JSON, without calling anyone.

    \b
    lockgate explain request.json
    lockgate explain --strict --table request.json
    """
    from gateway.config import load as config
    from gateway.explain.request import explain_file
    from gateway.explain.table import table

    headers = {"x-gateway-strict": "true"} if strict else {}
    found = explain_file(config_path or config.find_config_path(), _read(file), headers)
    if as_table:
        click.echo(table(found))
    else:
        _print_json(found)
    if "error" in found:
        click.get_current_context().exit(1)


@cli.command(short_help="List what callers may ask for, and where it goes.")
@config_option
@json_option
def models(config_path: str | None, as_json: bool) -> None:
    """List the models of a configuration and where each leads.

    \b
    lockgate models
    lockgate models --config my.yaml --json
    """
    found = _load(config_path).models
    if as_json:
        _print_json({"models": [{"name": name, "targets": _plain(model.targets)} for name, model in found.items()]})
        return
    width = max((len(name) for name in found), default=0)
    for name, model in found.items():
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {_words(model.targets)}")


@cli.command(short_help="Fetch the bundled model's weights.")
@click.option("--directory", type=click.Path(file_okay=False), help="Where to keep them, instead of the user's cache directory.")
def pull(directory: str | None) -> None:
    """Fetch the bundled model (98 MB, checked by hash) unless it is there already; print its path.

    \b
    lockgate pull
    """
    from pathlib import Path

    from providers.local import weights

    try:
        path = weights.pull(directory=Path(directory) if directory else None)
    except weights.WeightsError as error:
        raise Failed(str(error)) from None
    click.echo(path)


@cli.command(short_help="Show the version.")
@json_option
def version(as_json: bool) -> None:
    """Show the version of this program and of what it runs on."""
    import platform

    if as_json:
        _print_json({"version": _version(), "python": platform.python_version(), "platform": platform.platform()})
    else:
        click.echo(f"lockgate {_version()}")


@cli.command(short_help="Print a shell's completion script.")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes lockgate's commands and options in SHELL: bash, zsh or fish.

    \b
    eval "$(lockgate completion bash)"                        # in ~/.bashrc
    eval "$(lockgate completion zsh)"                         # in ~/.zshrc
    lockgate completion fish > ~/.config/fish/completions/lockgate.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "lockgate", "_LOCKGATE_COMPLETE").source())


cli.add_command(key)
cli.add_command(targets)
cli.add_command(top)
cli.add_command(usage)
cli.add_command(route)
cli.add_command(diff)


def _load(path: str | None) -> Config:
    from gateway.config import load as config

    return config.load(path or config.find_config_path())


def _read(file: str) -> bytes:
    """A file's bytes, or stdin's."""
    try:
        with click.open_file(file, "rb") as source:
            return bytes(source.read())
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror or error}") from None


def _fields(value: Any) -> dict[str, Any]:
    import msgspec

    return msgspec.structs.asdict(value)


def _print_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _plain(route: Any) -> Any:
    """A route as it is written in the YAML."""
    from gateway.config.load import Order, Split

    if isinstance(route, Order):
        return [_plain(step) for step in route.steps]
    return {str(ref): weight for ref, weight in route.choices} if isinstance(route, Split) else str(route)


def _words(route: Any) -> str:
    """A route in one line: an order with `then`, a split with shares."""
    plain = _plain(route)
    if isinstance(plain, list):
        return ", then ".join(_words(step) for step in route.steps)
    if isinstance(plain, dict):
        whole = sum(plain.values())
        return " or ".join(f"{name} ({weight / whole:.0%})" for name, weight in plain.items())
    return str(plain)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("lockgate")
    except PackageNotFoundError:
        return "(not installed)"


def _complain(error: click.ClickException) -> None:
    """One line on stderr; for a wrong use with the help to read."""
    message = f"lockgate: {error.format_message()}"
    if isinstance(error, click.UsageError):
        message += f" (see: {error.ctx.command_path if error.ctx else 'lockgate'} --help)"
    click.echo(" ".join(message.split()), err=True)


def run(args: list[str]) -> int:
    """Run one command; its exit code."""
    from gateway.config.problem import ConfigError

    try:
        colour = False if os.environ.get("NO_COLOR") else None  # None: where stdout is a terminal
        code = cli.main(args, prog_name="lockgate", standalone_mode=False, color=colour)
        return code if isinstance(code, int) else 0
    except click.Abort:
        return 130
    except click.ClickException as error:
        _complain(error)
        return error.exit_code
    except ConfigError as error:
        click.echo(str(error), err=True)
        return 2


def main() -> NoReturn:
    """The entry point of the `lockgate` command."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # who read our output has left; python would complain once more while it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
