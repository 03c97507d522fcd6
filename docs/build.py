"""Build the documentation website: copy pages and the files they link to build/site-source, then run MkDocs in strict mode.

python docs/build.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "site-source"
PAGES = ("*.md", "docs/**/*.md", "deploy/**/*.md", "config/*.md", "benchmarks/*.md")
_LINK = re.compile(r"\[([^\[\]]*)\]\(([^()\s#]+)(?:#[^()\s]*)?\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)


def linked_files(page: Path) -> list[Path]:
    """Return the files in the repository that a page links to."""
    links = [link for _, link in _LINK.findall(_FENCE.sub("", page.read_text())) if not re.match(r"[a-z]+:", link)]
    return [path for link in links if (path := (page.parent / link).resolve()).is_file() and path.is_relative_to(ROOT)]


def without_folder_links(page: Path) -> str:
    """Return the text of a page, with links to folders as plain text, because folders have no page on the website."""

    def replace(match: re.Match[str]) -> str:
        return match[1] if (page.parent / match[2]).is_dir() else match[0]

    parts = _FENCE.split(page.read_text())  # text and code blocks alternate
    return "".join(part if index % 2 else _LINK.sub(replace, part) for index, part in enumerate(parts))


def stage() -> None:
    """Copy the pages and the files they link to, with their paths."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    pages = [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]
    for path in {*pages, *(file for page in pages for file in linked_files(page))}:
        copy = SOURCE / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            copy.write_text(without_folder_links(path))
        else:
            shutil.copyfile(path, copy)


def main() -> int:
    """Build the website and return MkDocs' exit code."""
    stage()
    # --quiet would hide warnings from --strict
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ROOT / "docs" / "mkdocs.yml"]
    return subprocess.run(command, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
