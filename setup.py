"""Makes the source distribution reproducible: with SOURCE_DATE_EPOCH set, the same files always give the same bytes.

setuptools does this for wheels only. Everything else about the package is in pyproject.toml.
"""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist


class ReproducibleSdist(sdist):
    """Writes the archive with fixed times, owners, modes and order."""

    def make_archive(self, base_name: str, format: str, *args: object, **options: object) -> str:
        """Return the path of the archive of `base_dir`. Without SOURCE_DATE_EPOCH, and in other formats, setuptools writes it."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None or format != "gztar":
            return str(super().make_archive(base_name, format, *args, **options))
        folder = Path(str(options["base_dir"]))
        path = Path(f"{base_name}.tar.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            path.open("wb") as file,
            gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=int(epoch)) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for each in sorted(path for path in folder.rglob("*") if path.is_file()):
                archive.addfile(_entry(each, int(epoch)), each.open("rb"))
        return str(path)


def _entry(path: Path, epoch: int) -> tarfile.TarInfo:
    """Return the header of a file: mode 644, owner root, one time for all files."""
    entry = tarfile.TarInfo(path.as_posix())
    entry.size = path.stat().st_size
    entry.mode = 0o644
    entry.mtime = epoch
    entry.uname = entry.gname = "root"
    return entry


setup(cmdclass={"sdist": ReproducibleSdist})
