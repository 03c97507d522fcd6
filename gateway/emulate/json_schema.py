"""Validates JSON against a schema (draft 2020-12, or the one that `$schema` names), and describes the first error.

Schemas come from callers, so they must not cause connections or long searches: references to other documents are not
followed, and the backtracking of patterns is limited.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jsonschema_rs

MAX_BACKTRACKING = 100_000
"""Maximum number of backtracking steps of one pattern. That many steps take a few milliseconds."""
MAX_ERROR_CHARS = 300
SUBJECT = "the value"


class Schema:
    """A compiled schema. If the schema cannot be compiled, `problem` is the reason, and every value counts as valid."""

    __slots__ = ("_validator", "problem")

    def __init__(self, schema: Any) -> None:
        self._validator: jsonschema_rs.Validator | None = None
        self.problem: str | None = None
        try:
            self._validator = _compile(schema)
        except ValueError as error:
            self.problem = _one_line(str(error))

    def find_error(self, value: Any) -> str | None:
        """Return the first error in `value` with its place, such as `$.name[0]: ...`, or None."""
        if self._validator is None:
            return None
        try:
            error = next(iter(self._validator.iter_errors(value)), None)
        except ValueError:  # nested too deeply
            return None
        return None if error is None else f"{_place(error.instance_path)}: {_one_line(error.message)}"


def find_error(value: Any, schema: Any) -> str | None:
    """Return the first error in `value`, or None."""
    return Schema(schema).find_error(value)


def _compile(schema: Any) -> jsonschema_rs.Validator:
    """Return a validator, or raise ValueError. The validator's messages do not quote the value, which may be private."""
    import jsonschema_rs  # few configurations need this library, which takes 3 MB

    if type(schema) is not dict and type(schema) is not bool:
        raise ValueError("a schema must be an object or a boolean")
    try:
        return jsonschema_rs.validator_for(schema, offline=True, mask=SUBJECT, pattern_options=_patterns())
    except jsonschema_rs.ReferencingError as error:
        raise ValueError(str(error)) from None


@cache
def _patterns() -> jsonschema_rs.FancyRegexOptions:
    import jsonschema_rs

    return jsonschema_rs.FancyRegexOptions(backtrack_limit=MAX_BACKTRACKING)


def _place(path: list[str | int]) -> str:
    return "$" + "".join(f"[{step}]" if type(step) is int else f".{str(step)[:64]}" for step in path)


def _one_line(text: str) -> str:
    """Return the first line of a message, shortened."""
    line = text.partition("\n")[0].rstrip(":")
    return line if len(line) <= MAX_ERROR_CHARS else line[: MAX_ERROR_CHARS - 1] + "…"
