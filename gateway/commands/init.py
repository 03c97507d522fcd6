"""`lockgate init`: write a commented configuration to start from."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from urllib.parse import quote

import click

SAMPLES = Path(__file__).with_name("samples")
"""The sample configurations and their schema. In a checkout this is a link to config/."""

SCHEMA_LINE = "# yaml-language-server: $schema="
DEFAULT_FILE = "gateway.yaml"


def examples() -> list[str]:
    """Return the names of the examples, in alphabetical order."""
    return sorted(path.stem for path in (SAMPLES / "examples").glob("*.yaml"))


@click.command(short_help="Write a commented configuration to start from.")
@click.argument("file", default=DEFAULT_FILE, type=click.Path(dir_okay=False))
@click.option("--example", metavar="NAME", help="Start from this example instead of the default configuration.")
@click.option("--list", "list_only", is_flag=True, help="List the examples and write nothing.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def init(file: str, example: str | None, list_only: bool, force: bool) -> None:
    """Write FILE (default: gateway.yaml) and its JSON Schema, which editors use for completion.

    `lockgate serve` uses ./gateway.yaml if ./config/gateway.yaml does not exist. Existing files are overwritten only with --force.

    \b
    lockgate init
    lockgate init --list
    lockgate init production.yaml --example redis
    """
    if list_only:
        click.echo("\n".join(examples()))
        return
    if example is not None and example not in examples():
        raise click.BadParameter(f"there is no example '{example}'; lockgate init --list names them", param_hint="--example")
    path = Path(file)
    if not path.name or file.endswith("/"):
        raise click.BadParameter(f"'{file}' is not the name of a file", param_hint="FILE")
    schema = path.with_name(f"{path.stem}.schema.json")
    for each in (path, schema):
        if each.exists() and not force:
            raise click.ClickException(f"{each} exists; choose another name, or overwrite it with --force")
    sample = SAMPLES / DEFAULT_FILE if example is None else SAMPLES / "examples" / f"{example}.yaml"
    try:
        text = _with_schema(sample.read_text(), schema.name)
        path.write_text(text)
        schema.write_bytes((SAMPLES / "schema.json").read_bytes())
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from None
    click.echo(_hints(file, schema, text))


def _with_schema(text: str, schema: str) -> str:
    """Return the sample with a reference to this schema instead of its own."""
    lines = text.splitlines(keepends=True)
    return "".join([f"{SCHEMA_LINE}./{quote(schema)}\n", *(line for line in lines if not line.startswith(SCHEMA_LINE))])


def _hints(file: str, schema: Path, text: str) -> str:
    """Return the commands to run next with this file, and the one that installs the local engine if it is missing."""
    from gateway.config.extras import has_extra, install_command
    from gateway.config.load import find_config_path

    name = shlex.quote(file)
    config = "" if find_config_path(os.environ) == file else f" --config {name}"
    address = "" if re.search("^listen:", text, re.MULTILINE) else " on http://127.0.0.1:8080/v1"
    lines = [
        f"wrote {file} and {schema}",
        "",
        f"  lockgate check {name}    list every mistake in the file",
        f"  lockgate serve{config}    serve callers{address}",
    ]
    if not has_extra("local"):
        lines += ["", f"The local model needs one more package: {install_command('local')}"]
    return "\n".join(lines)
