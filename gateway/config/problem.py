"""Problems in the YAML, all reported together, each with its file, line, column, path and likely fix."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.config.yamlfile import Node, Place, Scalar

MAX_SHOWN_PROBLEMS = 50  # further problems are only counted, so that a hostile file cannot fill a log

SYNONYMS = {
    "api_base": "base_url",
    "url": "base_url",
    "endpoint": "base_url",
    "token": "api_key",
    "key": "api_key",
    "fallbacks": "targets",
    "target": "targets",
    "model_list": "models",
    "host": "listen",
    "port": "listen",
    "max_retries": "retries",
    "request_timeout": "timeout",
    "rps": "requests",
    "rpm": "requests",
    "rpd": "requests",
    "tps": "tokens",
    "tpm": "tokens",
    "tpd": "tokens",
    "input_tokens": "prompt_tokens",
    "completion_tokens": "output_tokens",
    "uncached_tokens": "uncached_prompt_tokens",
    "uncached_input_tokens": "uncached_prompt_tokens",
    "parallel": "concurrent",
    "parallel_requests": "concurrent",
    "max_parallel_requests": "concurrent",
    "concurrency": "concurrent",
    "budget": "spend",
    "max_budget": "spend",
    "cost": "spend",
    "usd": "spend",
}
"""Names that other programs use for keys in this file, if their spelling is too different for a guess."""


class Problem(msgspec.Struct, frozen=True):
    """One problem: its place in the file, the path of keys, and a message that never contains a secret."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: " if self.line else f"{self.file}: "
        return f"{where}{self.path}: {self.message}" if self.path else where + self.message


class ConfigError(Exception):
    """The configuration is invalid.

    `problems` lists every problem; `str()` has one line for each of the first MAX_SHOWN_PROBLEMS problems.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:MAX_SHOWN_PROBLEMS]]
        if len(self.problems) > MAX_SHOWN_PROBLEMS:
            lines.append(f"{self.problems[0].file}: and {len(self.problems) - MAX_SHOWN_PROBLEMS} more problems")
        super().__init__("\n".join(lines))


class Problems:
    """Collects the problems of one file, and remembers where each path is written, for later checks."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: dict[Problem, None] = {}
        self._nodes: dict[str, Node] = {}

    def __len__(self) -> int:
        return len(self._found)

    def remember(self, path: str, node: Node) -> None:
        """Remember where `path` is written, and the text of its value before variables are inserted: a variable may hold a secret."""
        self._nodes[path] = node

    def is_written(self, path: str) -> bool:
        """Return whether the file contains this path."""
        return path in self._nodes

    def source_text(self, path: str) -> str:
        """Return a value as it is written in the file, shortened and printable."""
        node = self._nodes.get(path)
        return shorten(node.text if isinstance(node, Scalar) else "")

    def add(self, place: Place, path: str, message: str) -> None:
        """Add a problem at a known place."""
        self._found[Problem(self.file, place.line, place.column, path, message)] = None

    def add_at_path(self, path: str, message: str) -> None:
        """Add a problem at a path.

        If the file does not contain the path, the problem is placed at the nearest parent, else at the start of the file.
        """
        known = path
        while known and known not in self._nodes:
            known = known.rpartition(".")[0]
        self.add(self._nodes[known].place if known in self._nodes else Place(1, 1), path, message)

    @property
    def in_order(self) -> list[Problem]:
        """The problems in the order of their places in the file."""
        return sorted(self._found, key=lambda problem: (problem.line, problem.column))

    def raise_if_any(self) -> None:
        """If there are problems, raise a ConfigError that has them in the order of their places in the file."""
        if self._found:
            raise ConfigError(self.in_order)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` probably stands for: its synonym or the most similar word. Return None if there is none."""
    from difflib import get_close_matches

    plain = {name.lower().replace("_", "").replace("-", ""): name for name in sorted(known, reverse=True)}
    bare = word.lower().replace("_", "").replace("-", "")
    if SYNONYMS.get(word.lower()) in plain.values():
        return SYNONYMS[word.lower()]
    if bare in plain:
        return plain[bare]
    close = get_close_matches(bare, plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def suggest(word: str, known: Iterable[str], kind: str = "known keys") -> str:
    """Return the end of a message: a suggestion, or the known words."""
    names = sorted(known)
    near = nearest(word, names)
    if near is not None:
        return f", did you mean '{near}'?"
    if not names:
        return f"; {kind}: none"
    return f"; {kind}: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"


def shorten(text: str) -> str:
    """Return a value for a message: short, printable and in quotes."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def join(path: str, key: str) -> str:
    """Return the path of `key` below `path`, safe to print."""
    shown = key if key.isprintable() and len(key) <= 80 else ascii(key[:80])[1:-1]
    return f"{path}.{shown}" if path else shown
