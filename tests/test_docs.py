"""The documentation: every relative link and anchor resolves, the configurations in the guides load, and the index is complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from gateway.commands.cli import cli
from gateway.config import load as config
from tests.support.each import each

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "config/README.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
ENVIRON = {"OPENAI_API_KEY": "sk-0123456789", "MY_SERVER_KEY": "sk-0123456789"}
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    """Return a page's path within the repository."""
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """Return a page without its code blocks."""
    return _FENCE.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the website build them."""
    titles = re.findall(r"^#{1,6} (.+?) *$", prose(path), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


def links(path: Path) -> list[str]:
    """Return the relative links of a page."""
    return [link for link in _LINK.findall(prose(path)) if not re.match(r"[a-z]+:", link)]


@each("path", PAGES, ids=name_of)
def test_relative_links_and_anchors_resolve(path: Path) -> None:
    broken = []
    for link in links(path):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_a_broken_anchor_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Two words, a comma\n[here](#two-words-a-comma) [there](other.md#x)\n```\n[code](no.md)\n```\n")
    assert anchors(page) == {"two-words-a-comma"}
    assert links(page) == ["#two-words-a-comma", "other.md#x"]


def test_index_links_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    pages = {path.resolve() for path in (ROOT / "docs").rglob("*.md")} - {index.resolve()}
    assert sorted(map(name_of, pages - linked)) == []


def test_website_navigation_has_every_page() -> None:
    text = (ROOT / "docs" / "mkdocs.yml").read_text()
    listed = set(re.findall(r"^ *- [^:\n]+: (\S+\.md)$", text, re.MULTILINE))
    assert sorted({name_of(path) for path in PAGES} - listed) == []


def test_architecture_draws_the_layers_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    drawing = re.findall(r"^ ?\d+ (\w+(?: \| \w+)*)", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert drawing == [*layers, "providers"]


def test_architecture_describes_every_package() -> None:
    section = (ROOT / "docs" / "architecture.md").read_text().partition("## Packages")[2].partition("\n## ")[0]
    packages = sorted(path.parent.name for path in (ROOT / "gateway").glob("*/__init__.py"))
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == packages


def test_commands_in_the_documents_exist() -> None:
    text = "\n".join(path.read_text() for path in PAGES)
    known = set(cli.commands)
    for name in list(known):
        known |= {f"{name} {command}" for command in getattr(cli.commands[name], "commands", {})}
    used = set(re.findall(r"(?:`|^|bin/)lockgate ([a-z]+)\b", text, re.MULTILINE))
    used |= {f"key {command}" for command in re.findall(r"lockgate key ([a-z]+)\b", text)}
    assert len(used) > 10
    assert sorted(used - known) == []


def test_paths_in_the_documents_exist() -> None:
    example = {"providers/NAME.py", "providers/example.py", "deploy/secrets", "deploy/secrets/openai_api_key"}
    pattern = re.compile(r"(?<![\w./-])((?:gateway|providers|tests|deploy|config|docs|benchmarks|requirements)/[\w./-]*\w)")
    named = {(name_of(page), path) for page in PAGES for path in pattern.findall(page.read_text()) if page.stem != "CHANGELOG"}
    missing = [one for one in sorted(named) if one[1] not in example and not (ROOT / one[1]).exists()]
    assert missing == []


def test_make_targets_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    used = {target for path in PAGES for target in re.findall(r"`make ([a-z-]+)", path.read_text())}
    assert sorted(target for target in used if not re.search(rf"^{target}:", makefile, re.MULTILINE)) == []


def guide_configurations() -> list[tuple[str, str]]:
    """Return the YAML blocks of the guides that are whole configurations."""
    blocks = [(path.stem, block) for path in GUIDES for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)]
    return [(name, block) for name, block in blocks if "providers:" in block]


@pytest.mark.parametrize(
    ("guide", "text"), [pytest.param(*one, id=f"{one[0]}-{index}") for index, one in enumerate(guide_configurations())]
)
def test_configuration_in_a_guide_loads(guide: str, text: str, tmp_path: Path) -> None:
    for name in re.findall(r"file:([\w.-]+)", text):
        (tmp_path / name).write_text("sk-0123456789")
        (tmp_path / name).chmod(0o600)
    loaded = config.parse(text.encode(), str(tmp_path / "gateway.yaml"), environ=ENVIRON)
    assert set(loaded.models) == set(yaml.safe_load(text)["models"])
