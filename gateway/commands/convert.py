"""`lockgate convert`: convert the configuration of LiteLLM's proxy."""

from __future__ import annotations

import click

from gateway.commands.output import read_file


@click.command(short_help="Convert the configuration of LiteLLM's proxy.")
@click.argument("file", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="File to write. Default: standard output.")
def convert(file: str, output: str | None) -> None:
    """Convert FILE, the configuration of LiteLLM's proxy, to a configuration of the gateway.

    Models with their deployments, weights, fallbacks, limits, prices and timeouts are carried over. Everything else is
    listed on standard error with its line. The exit code is 1 if the result needs corrections before it can be used.

    \b
    lockgate convert litellm.yaml > gateway.yaml
    lockgate convert litellm.yaml --output gateway.yaml
    """
    from gateway.config.load import ConfigError, parse
    from gateway.config.problem import Problem, Problems
    from gateway.config.yamlfile import YamlError
    from gateway.convert.litellm import Conversion

    try:
        conversion = Conversion(read_file(file), file)
    except YamlError as error:
        raise ConfigError([Problem(file, error.place.line, error.place.column, "", error.message)]) from None
    text = conversion.text()
    for note in conversion.notes:
        click.echo(str(note), err=True)
    if output is None:
        click.echo(text, nl=False)
    else:
        with click.open_file(output, "w", encoding="utf-8") as target:
            target.write(text)
    name = output or "(converted)"
    try:
        parse(text.encode(), name, environ={}, absent=Problems(name))
    except ConfigError as error:
        click.echo(str(error), err=True)
        click.get_current_context().exit(1)
