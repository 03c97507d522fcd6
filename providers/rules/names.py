"""Rules for the name of a parameter at a vendor, such as `max_completion_tokens` instead of `max_tokens`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from providers.rules.rule import Rule, Work


class Rename(Rule, frozen=True):
    """Renames a parameter to the provider's name for it. This rule must come after the other rules for the parameter."""

    to: str

    @property
    def may_add(self) -> tuple[str, ...]:
        return (self.to,)

    def apply(self, work: Work) -> None:
        """Move the value. If the caller also sent a value under the provider's name, that value takes precedence."""
        if self.param not in work.body:
            return
        if self.to in work.body:
            work.report_lossy(self.param, "drop", f"'{self.to}' is also set", code="conflicting_parameters")
            work.body.pop(self.param)
            return
        work.report(self.param, "rename", to=self.to)
        work.body.rename(self.param, self.to)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "rename", "to": self.to}, self.to: {"support": "yes"}}


class OutputCap(Rule, frozen=True):
    """The limit on output tokens, which has two names. The provider accepts `param`, or both names if `accepts_both` is true."""

    accepts_both: bool = False

    @property
    def other(self) -> str:
        """The other of the two names of the limit."""
        return "max_tokens" if self.param == "max_completion_tokens" else "max_completion_tokens"

    @property
    def params(self) -> tuple[str, ...]:
        return (self.param, self.other)

    def is_due(self, names: Collection[str]) -> bool:
        return self.other in names

    def apply(self, work: Work) -> None:
        """Send one limit: the smaller one if the two differ. Raise Refusal in strict mode if they differ."""
        body, other = work.body, self.other
        cap, second = body.get(self.param), body.get(other)
        if second is None:
            if other in body:
                body.pop(other)
                work.report(other, "drop", why="neutral value")
            return
        if cap is None:
            if not self.accepts_both:
                work.report(other, "rename", to=self.param)
                body.rename(other, self.param)
        elif cap == second:
            work.report(other, "drop", why=f"same value as {self.param}")
            body.pop(other)
        else:
            self._keep_smaller(work, cap, second)

    def _keep_smaller(self, work: Work, cap: int, second: int) -> None:
        why = "max_tokens and max_completion_tokens differ; the smaller one applies"
        if work.strict:
            raise work.refuse("max_completion_tokens", "it differs from 'max_tokens'", "conflicting_parameters")
        if cap < second:
            work.report_lossy(self.other, "drop", why)
            work.body.pop(self.other)
        else:
            work.report_lossy(self.param, "drop", why)
            work.report(self.other, "rename", to=self.param)
            work.body.rename(self.other, self.param)

    def describe(self) -> dict[str, dict[str, Any]]:
        second = {"support": "yes"} if self.accepts_both else {"support": "adjusted", "action": "rename", "to": self.param}
        return {self.param: {"support": "yes"}, self.other: second}
