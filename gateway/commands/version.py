"""`lockgate version` and `lockgate completion`: show the version; print a completion script."""

from __future__ import annotations

import click

from gateway.commands.options import json_option
from gateway.commands.output import installed_version, print_json


@click.command(short_help="Show the version.")
@json_option
def version(as_json: bool) -> None:
    """Show the version of lockgate; with --json, also the versions of Python and the platform."""
    import platform

    if as_json:
        print_json(
            {"version": installed_version(), "python": platform.python_version(), "platform": platform.platform()}
        )
    else:
        click.echo(f"lockgate {installed_version()}")


@click.command(short_help="Print a shell's completion script.")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of lockgate for SHELL: bash, zsh or fish.

    \b
    eval "$(lockgate completion bash)"                        # in ~/.bashrc
    eval "$(lockgate completion zsh)"                         # in ~/.zshrc
    lockgate completion fish > ~/.config/fish/completions/lockgate.fish
    """
    from click.shell_completion import get_completion_class

    completion_class = get_completion_class(shell)
    assert completion_class is not None
    cli = click.get_current_context().find_root().command
    click.echo(completion_class(cli, {}, "lockgate", "_LOCKGATE_COMPLETE").source())
