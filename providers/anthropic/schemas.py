"""Converts structured output to Anthropic's output_config, with the schema in Anthropic's dialect."""

from __future__ import annotations

from typing import Any

from providers.rules.rule import Rule, Work
from providers.rules.schema_descriptions import described_schema
from providers.rules.schema_dialect import Dialect, NotExpressibleError, Simplifier
from providers.rules.schemas import report_removed
from providers.schema_dialects import ANTHROPIC_SCHEMAS


class FormatAsOutputConfig(Rule, frozen=True):
    """Converts json_schema to output_config.format. Anthropic has no JSON mode without a schema."""

    dialect: Dialect = ANTHROPIC_SCHEMAS

    def apply(self, work: Work) -> None:
        """Convert a schema to the dialect. Drop other formats, and a schema that the dialect cannot express."""
        value = work.body.get(self.param) or {}
        if value.get("type") != "json_schema":
            work.drop(self.param, "there is no JSON mode without a schema")
            return
        simplifier = Simplifier(self.dialect)
        try:
            schema = simplifier.simplify(described_schema(value["json_schema"]))
        except NotExpressibleError as error:
            work.drop(self.param, f"the upstream cannot enforce this schema: {error}")
            return
        work.body.pop(self.param)
        output_format = {"type": "json_schema", "schema": schema}
        work.body.set("output_config", {**(work.body.get("output_config") or {}), "format": output_format})
        work.report(self.param, "reshape", to="output_config.format", why=simplifier.reason())
        report_removed(work, self.param, simplifier)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "reshape", "to": "output_config.format", "values": ["text", "json_schema"]}}
