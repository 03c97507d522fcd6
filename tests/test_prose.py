"""Plain English: docstrings, comments, messages, help texts and documents avoid a list of phrases.

tests/prose_exceptions.json has the number of such phrases in each file that still has some. The numbers may only shrink:

    python -m tests.test_prose          list the phrases
    python -m tests.test_prose --lower  lower the numbers to the current ones
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.support.each import each

ROOT = Path(__file__).parents[1]
EXCEPTIONS = Path(__file__).with_name("prose_exceptions.json")
PHRASES = (
    "nobody", "somebody", "everybody", "whoever", "whom", "who ends", "who waits", "who leaves", "who calls", "who asks",
    "anew", "lest", "goodbye", "in its stead", "in the stead", "in their stead", "to be had", "cannot be had", "is to be had",
    "gone on with", "goes on with", "going on with", "go on with", "gone on", "left alone", "leave alone", "turned away",
    "out of reach", "under way", "is told", "are told", "was told", "is asked", "are asked", "lets go of",
    "found wanting", "makes nothing of", "had better not", "of its own accord", "for nobody", "hand on", "handed on",
    "is none of", r"(?<!there\s)is\s+no\s+(?!longer\b|more\b|less\b)\w+", r"(?<!there\s)are\s+no\s+(?!longer\b|more\b|less\b)\w+",
)  # fmt: skip
"""Old, coy or personifying phrases. CONTRIBUTING.md has the words to use instead."""
_SPACED = [phrase if "(" in phrase else phrase.replace(" ", r"\s+") for phrase in PHRASES]
_BANNED = re.compile(rf"\b(?:{'|'.join(_SPACED)})\b", re.IGNORECASE)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_BETWEEN_WORDS = re.compile(r"[\s#\"']+")
PYTHON = ("gateway", "providers", "tests", "benchmarks", "deploy", "docs")
TEXTS = (
    "*.md", "docs/**/*.md", "deploy/**/*.md", "deploy/**/*.yml", "deploy/**/*.yaml", "deploy/*.cfg", "deploy/*.conf", "deploy/Dockerfile",
    "docker-compose.yml", "config/**/*.md", "config/**/*.yaml", "config/schema.json", "benchmarks/*.md", "Makefile", "requirements/*.in",
    ".github/**/*.yml", ".github/**/*.md",
)  # fmt: skip
SKIPPED = {"tests/test_prose.py"}


def texts_of(source: str) -> Iterator[str]:
    """Yield the docstrings, other strings and comments of a Python file, with adjacent comment lines joined."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value
    comments: list[str] = []
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1 and comments:
                yield " ".join(comments)
                comments = []
            comments.append(token.string.lstrip("# "))
            last = token.start[0]
    yield " ".join(comments)


def phrases_in(text: str) -> list[str]:
    """Return the banned phrases of a text, outside of inline code."""
    return [" ".join(match.group().split()) for match in _BANNED.finditer(_CODE.sub("`", text))]


def found() -> dict[str, list[str]]:
    """Return the banned phrases of each file that has some."""
    phrases: dict[str, list[str]] = {}
    python = [path for folder in PYTHON for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts]
    other = [path for pattern in TEXTS for path in ROOT.glob(pattern)]
    for path in sorted({*python, *other}):
        name = str(path.relative_to(ROOT))
        source = path.read_text()
        if not _BANNED.search(_BETWEEN_WORDS.sub(" ", source)):
            continue  # most files: parsing them would take ten times as long
        texts = texts_of(source) if path.suffix == ".py" else [source]
        hits = [phrase for text in texts for phrase in phrases_in(text)]
        if hits and name not in SKIPPED:
            phrases[name] = hits
    return phrases


def test_no_file_has_more_banned_phrases_than_listed() -> None:
    listed: dict[str, int] = json.loads(EXCEPTIONS.read_text())
    more = {name: phrases for name, phrases in found().items() if len(phrases) > listed.get(name, 0)}
    assert more == {}, "write plain English, see CONTRIBUTING.md"


@each("text", ["Nobody waits.", "a call\nthat is gone\non with", "# It is no key.", "handed on"])
def test_banned_phrase_is_found(text: str) -> None:
    assert phrases_in(text)


@each("text", ["It is no longer used.", "no one-way door", "`nobody` is a user", "There is no default."])
def test_plain_text_passes(text: str) -> None:
    assert phrases_in(text) == []


def test_docstrings_messages_and_comments_are_read() -> None:
    source = '"""Doc string."""\nraise E(f"Message {x} text")  # a comment\n# first line\n# second line\n'
    assert {"Doc string.", "a comment first line second line"} <= set(texts_of(source))
    assert any("Message " in text for text in texts_of(source))


if __name__ == "__main__":
    current = found()
    if "--lower" in sys.argv:
        listed: dict[str, int] = json.loads(EXCEPTIONS.read_text()) if EXCEPTIONS.exists() else {}
        counts = {name: min(len(phrases), listed.get(name, len(phrases))) for name, phrases in current.items()}
        EXCEPTIONS.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n")
    for name, phrases in current.items():
        sys.stdout.write(f"{name}: {', '.join(phrases)}\n")
    sys.stdout.write(f"{sum(map(len, current.values()))} phrases in {len(current)} files\n")
