"""Rules that change nothing, but warn the caller about a value."""

from __future__ import annotations

from typing import Any

from providers.rules.rule import Rule, Work


class NoEffect(Rule, frozen=True):
    """A parameter that the upstream accepts but that has no effect, except with one of the values in `effective`."""

    effective: tuple[Any, ...] = ()

    def apply(self, work: Work) -> None:
        """Warn about a value without effect."""
        value = work.body.get(self.param)
        if value is not None and value not in self.effective:
            work.report(self.param, "warn", from_=value, why=self._advice())

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"advice": self._advice()}}

    def _advice(self) -> str:
        return f"it has an effect upstream only with the value {' or '.join(map(str, self.effective))}"
