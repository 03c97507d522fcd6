"""Rules for schemas of structured output and of strict tools, in the dialect of JSON Schema that a vendor enforces.

A schema is rewritten if the dialect can express it except for some keywords. For structured output, the gateway then checks the
answer against the caller's own schema. The dialects are in `providers.schema_dialects`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from providers.rules.rule import Rule, Work
from providers.rules.schema_dialect import Dialect, NotExpressibleError, Simplifier, is_object_schema
from providers.rules.schema_unions import merged_schema
from providers.value_hash import ValueHash, value_hash

CHECKED_ARGUMENTS = "checked arguments"
"""Key of `Options.memo`: the names of the strict functions whose arguments the gateway checks."""


MAX_REMEMBERED = 1_000
_in_dialect: set[tuple[str, ValueHash]] = set()
"""Hashes of tool lists that need no change: agents send the same tools with every call; a check takes milliseconds."""


class StrictFormat(Rule, frozen=True):
    """A `json_schema` with `strict: true`, which the upstream rejects if the schema is not in its dialect."""

    param: str = "response_format"
    dialect: Dialect = Dialect(source="")

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Rewrite the schema. If the dialect cannot express it, send it with `strict: false`, or request the JSON in words."""
        value = work.body.get(self.param)
        wrapped = value.get("json_schema") if type(value) is dict and value.get("type") == "json_schema" else None
        if type(wrapped) is not dict or (wrapped.get("strict") is not True and not self.dialect.always):
            return
        schema = wrapped.get("schema")
        if schema is None and wrapped.get("strict") is not True:
            return
        simplifier = Simplifier(self.dialect)
        try:
            simple = simplifier.simplify(schema)
        except NotExpressibleError as error:
            self._fall_back(work, value, schema, str(error))
            return
        if simple != schema:
            work.body.set(self.param, {**value, "json_schema": {**wrapped, "schema": simple}})
            reason = simplifier.reason()
            if reason:
                work.report(self.param, "reshape", why=reason)
        report_removed(work, self.param, simplifier)

    def _fall_back(self, work: Work, value: dict[str, Any], schema: Any, reason: str) -> None:
        """Send the schema with `strict: false`. A vendor that accepts no such schema gets an instruction in words."""
        sent = schema
        if self.dialect.root_object and not is_object_schema(schema):
            sent = merged_schema(schema or {}) if schema is None or type(schema) is dict else None
        if sent is None or not self.dialect.falls_back:
            work.drop(self.param, f"the upstream cannot enforce this schema: {reason}")
            return
        work.body.set(self.param, {**value, "json_schema": {**value["json_schema"], "schema": sent, "strict": False}})
        why = f"sent with strict: false, because the upstream cannot enforce this schema: {reason}; the gateway checks the answer"
        work.report(self.param, "enforce_locally", why=why)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "advice": "strict schemas are rewritten in the upstream's dialect"}}


class StrictTools(Rule, frozen=True):
    """Tools with `strict: true`, which the upstream rejects if their schema is not in its dialect."""

    param: str = "tools"
    dialect: Dialect = Dialect(source="")
    repeats: ClassVar[bool] = True

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Rewrite the schemas. The gateway checks arguments if the upstream does not enforce the whole schema."""
        tools = work.body.get(self.param)
        raw = work.body.raw(self.param) or b""
        if not tools or not (self.dialect.always or b'"strict"' in raw):
            return
        key = (self.dialect.source, value_hash(raw))
        if key in _in_dialect:
            return
        reported = len(work.adjustments)
        changed = [self._rewrite(work, index, tool) for index, tool in enumerate(tools)]
        if changed != tools:
            work.body.set(self.param, changed)
        elif len(work.adjustments) == reported:
            if len(_in_dialect) >= MAX_REMEMBERED:
                _in_dialect.clear()
            _in_dialect.add(key)

    def _rewrite(self, work: Work, index: int, tool: dict[str, Any]) -> dict[str, Any]:
        function = tool.get("function")
        if type(function) is not dict or type(function.get("parameters")) is not dict:
            return tool
        is_strict = function.get("strict") is True
        if not is_strict and not self.dialect.always:
            return tool
        where = f"{self.param}[{index}].function"
        simplifier = Simplifier(self.dialect)
        try:
            schema = simplifier.simplify(function["parameters"])
        except NotExpressibleError as error:
            if not is_strict:
                work.report(f"{where}.parameters", "warn", why=f"the upstream does not enforce this schema: {error}")
                return tool
            why = f"the upstream cannot enforce its schema: {error}; the gateway checks the arguments"
            check_arguments(work, function)
            work.report(f"{where}.strict", "enforce_locally", why=why)
            return {**tool, "function": {key: value for key, value in function.items() if key != "strict"}}
        unenforced = simplifier.removed | simplifier.unenforced if is_strict else simplifier.removed
        if unenforced:
            check_arguments(work, function)
            why = f"the upstream does not enforce {', '.join(sorted(unenforced))}; the gateway checks the arguments"
            work.report(f"{where}.parameters", "enforce_locally", why=why)
        if schema != function["parameters"] and simplifier.reason():
            work.report(f"{where}.parameters", "reshape", why=simplifier.reason())
        return {**tool, "function": {**function, "parameters": schema}}

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


def check_arguments(work: Work, function: dict[str, Any]) -> None:
    """Have the gateway check the arguments of a function in the answer."""
    names = work.options.memo.get(CHECKED_ARGUMENTS, frozenset())
    work.options.memo[CHECKED_ARGUMENTS] = names | {function.get("name")}


def report_removed(work: Work, param: str, simplifier: Simplifier) -> None:
    """Report the keywords of an answer's schema that the upstream does not enforce."""
    if simplifier.removed:
        names = ", ".join(sorted(simplifier.removed))
        why = f"the upstream does not support {names}; the gateway checks the answer against the whole schema"
        work.report(param, "enforce_locally", why=why)
    if simplifier.unenforced:
        names = ", ".join(sorted(simplifier.unenforced))
        why = f"the upstream does not guarantee {names}; the gateway checks the answer against the whole schema"
        work.report(param, "enforce_locally", why=why)
