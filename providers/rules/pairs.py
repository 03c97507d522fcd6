"""Rules for parameter combinations: required together, exclusive, discouraged."""

from __future__ import annotations

from typing import Any, ClassVar

from providers.rules.rule import Rule, Work, is_neutral


class Requires(Rule, frozen=True):
    """A parameter that is valid only with another one."""

    other: str

    def apply(self, work: Work) -> None:
        """Without the other parameter, drop a neutral value and refuse any other, even in lenient mode."""
        if work.body.get(self.other):
            return
        if is_neutral(self.param, work.body.get(self.param)):
            work.drop(self.param)
        else:
            raise work.refuse(self.param, f"it requires '{self.other}'")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"needs": self.other}}


class Excludes(Rule, frozen=True):
    """A parameter that excludes `others`. It is dropped, or refused even in lenient mode if `refuse` is set."""

    others: tuple[str, ...]
    refuse: bool = False
    code: str = "unsupported_combination"

    def apply(self, work: Work) -> None:
        other = next((name for name in self.others if not is_neutral(name, work.body.get(name))), None)
        if other is None or self.param not in work.body:
            return
        why = f"not supported together with {other}"
        if is_neutral(self.param, work.body.get(self.param)):
            work.report(self.param, "drop", why="neutral value")
        elif self.refuse:
            raise work.refuse(self.param, why, self.code)
        else:
            work.report_lossy(self.param, "drop", why, code=self.code)
        work.body.pop(self.param)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"excludes": list(self.others)}}


class Discouraged(Rule, frozen=True):
    """Two parameters that the provider advises against setting together. They are sent, with a warning."""

    other: str
    why: str

    def apply(self, work: Work) -> None:
        if work.body.get(self.param) is not None and work.body.get(self.other) is not None:
            work.report(self.param, "warn", why=self.why)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"advice": self.why}}


class MinimumBelowCap(Rule, frozen=True):
    """Lowers a minimum of output tokens to the output cap, because upstreams reject a higher minimum."""

    param: str = "min_tokens"
    defines: ClassVar[bool] = False

    @property
    def params(self) -> tuple[str, ...]:
        return ("min_tokens", "min_completion_tokens")

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Lower each minimum to the smaller of the two output caps."""
        body = work.body
        caps = [cap for cap in (body.get("max_tokens"), body.get("max_completion_tokens")) if type(cap) is int]
        for name in self.params if caps else ():
            least = body.get(name)
            if type(least) is int and least > min(caps):
                work.report_lossy(name, "clamp", "must not exceed the output cap", from_=least, to=min(caps))
                body.set(name, min(caps))

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}
