"""`lockgate catalog update`: import newer prices and limits of models from a published file."""

from __future__ import annotations

import click

from gateway.commands.output import printable

MAX_BYTES = 64 << 20


class UnusableFileError(click.ClickException):
    """A file cannot be read, written or used."""

    exit_code = 2


@click.group(short_help="Update the catalog of prices and limits.")
def catalog() -> None:
    """Manage the catalog: prices, context windows and output limits of vendors' models."""


@catalog.command(short_help="Write newer entries to an overlay.")
@click.option("--from", "source", required=True, type=click.Path(dir_okay=False), help="The published catalog.")
@click.option(
    "--to", "target", default="catalog.json", show_default=True, type=click.Path(dir_okay=False), help="The overlay to write."
)
@click.option("--vendor", "vendors", multiple=True, metavar="NAME", help="Also compare the models of this vendor. Repeatable.")
@click.option("--as-of", metavar="DATE", help="Date of the prices. Default: the date on which the file was last changed.")
@click.option("--dry-run", is_flag=True, help="Show the differences without writing the overlay.")
def update(source: str, target: str, vendors: tuple[str, ...], as_of: str | None, dry_run: bool) -> None:
    """Compare a published catalog with the bundled one, show the differences, and write them to an overlay.

    The file is https://models.dev/api.json or the data.json of github.com/pydantic/genai-prices. Nothing is downloaded.
    The vendors of the bundled catalog and those of --vendor are compared. `catalog:` in the configuration names the overlay.

    \b
    curl -fsSO https://models.dev/api.json
    lockgate catalog update --from api.json --to catalog.json
    """
    from datetime import UTC, date, datetime
    from pathlib import Path

    from gateway.catalog import bundled_vendors, read_overlay
    from gateway.catalog.importers import UnusableCatalogError, read_catalog
    from gateway.catalog.update import updated, write_overlay

    path = Path(target)
    try:
        day = date.fromisoformat(as_of) if as_of else datetime.fromtimestamp(Path(source).stat().st_mtime, UTC).date()
    except OSError as error:
        raise UnusableFileError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise UnusableFileError(f"--as-of: {error}") from None
    try:
        with Path(source).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        earlier = read_overlay(path.read_bytes()) if path.exists() else None
    except OSError as error:
        raise UnusableFileError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise UnusableFileError(f"{target}: {error}") from None
    if len(data) > MAX_BYTES:
        raise UnusableFileError(f"{source} is larger than {MAX_BYTES >> 20} MiB")
    try:
        name, entries = read_catalog(data, bundled_vendors() | frozenset(vendors), str(day))
    except UnusableCatalogError as error:
        raise UnusableFileError(printable(f"{source}: {error}")) from None
    overlay, differences = updated(name, str(day), entries, earlier)
    for difference in differences:
        click.echo(printable(str(difference)))
    new = sum(difference.is_new for difference in differences)
    click.echo(f"{name} of {day}: {new} new, {len(differences) - new} changed")
    if not dry_run:
        try:
            write_overlay(path, overlay)
        except OSError as error:
            raise UnusableFileError(f"{target}: {error.strerror}") from None
        click.echo(f"wrote {target}; set `catalog: {target}` in the configuration to use it")
