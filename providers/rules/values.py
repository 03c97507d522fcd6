"""Rules for a single value: ranges, allowed values, defaults, headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec

from providers.rules.rule import UNSUPPORTED, Rule, Work, is_neutral


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float, but not a bool."""
    return type(value) is int or type(value) is float


class Range(Rule, frozen=True):
    """A number from `low` to `high`. Other numbers are clamped, or refused even in lenient mode if `refuse` is set."""

    low: float | None = None
    high: float | None = None
    refuse: bool = False

    def apply(self, work: Work) -> None:
        value = work.body.get(self.param)
        if not is_number(value):
            return
        bound = value
        if self.low is not None and value < self.low:
            bound = self.low
        elif self.high is not None and value > self.high:
            bound = self.high
        if bound == value:
            return
        why = f"must be {self.in_words()}"
        if self.refuse:
            raise work.refuse(self.param, why)
        work.report_lossy(self.param, "clamp", why, from_=value, to=bound)
        work.body.set(self.param, bound)

    def in_words(self) -> str:
        """Return the range in words."""
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes"} | {k: v for k, v in (("min", self.low), ("max", self.high)) if v is not None}}


class BiasRange(Rule, frozen=True):
    """Token biases from `low` to `high`. Biases outside this range are clamped."""

    low: float = -100
    high: float = 100

    def apply(self, work: Work) -> None:
        biases = work.body.get(self.param)
        if type(biases) is not dict:
            return
        clamped = {token: min(max(bias, self.low), self.high) if is_number(bias) else bias for token, bias in biases.items()}
        if clamped != biases:
            worst = max((bias for bias in biases.values() if is_number(bias)), key=abs)
            to = min(max(worst, self.low), self.high)
            work.report_lossy(self.param, "clamp", f"biases must be {self.low:g} to {self.high:g}", from_=worst, to=to)
            work.body.set(self.param, clamped)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "min": self.low, "max": self.high}}


class OneOf(Rule, frozen=True):
    """One of `values`. Other values are mapped by `nearest` or dropped. If `refuse` is set, they are refused even in lenient mode."""

    values: tuple[Any, ...]
    nearest: Mapping[Any, Any] = {}
    synonyms: Mapping[Any, Any] = {}
    """Words with the same meaning as one of `values`. They are replaced even in strict mode, and even if `refuse` is set."""
    refuse: bool = False
    accepts_numbers: bool = False

    def apply(self, work: Work) -> None:
        """Replace or drop a value that is not allowed."""
        value = work.body.get(self.param)
        if value is None or value in self.values or (self.accepts_numbers and (type(value) is int or type(value) is bool)):
            return
        key = value if type(value) is str else ""
        if key in self.synonyms:
            work.report(self.param, "reshape", from_=value, to=self.synonyms[key])
            work.body.set(self.param, self.synonyms[key])
            return
        why = f"must be one of {', '.join(map(str, self.values))}" if self.values else "no value is supported"
        if self.refuse:
            raise work.refuse(self.param, why)
        if key in self.nearest:
            work.report_lossy(self.param, "clamp", why, from_=value, to=self.nearest[key])
            work.body.set(self.param, self.nearest[key])
        else:
            work.report_lossy(self.param, "drop", why)
            work.body.pop(self.param)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "values": list(self.values)}}


class Drop(Rule, frozen=True):
    """A parameter that the provider lacks, ignores or rejects. `neutral` lists further values whose removal loses nothing."""

    why: str = UNSUPPORTED
    neutral: tuple[Any, ...] = ()
    code: str = "unsupported_parameter"

    def apply(self, work: Work) -> None:
        if self.param not in work.body:
            return
        if work.body.get(self.param) in self.neutral:
            work.report(self.param, "drop", why="neutral value")
            work.body.pop(self.param)
        else:
            work.drop(self.param, self.why, self.code)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "no", "why": self.why}}


class Refuse(Rule, frozen=True):
    """A parameter that cannot be dropped without changing the answer.

    Every value except a neutral one is refused, in strict and in lenient mode.
    """

    why: str = UNSUPPORTED
    code: str = "unsupported_parameter"

    def apply(self, work: Work) -> None:
        """Drop a neutral value, and refuse any other."""
        if self.param not in work.body:
            return
        if not is_neutral(self.param, work.body.get(self.param)):
            raise work.refuse(self.param, self.why, self.code)
        work.drop(self.param)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "no", "why": self.why, "refused": True}}


class Default(Rule, frozen=True):
    """Sends a default if the caller sets no value. The provider's setting that `setting` names replaces the default."""

    value: Any
    why: str = ""
    setting: str = ""
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    def apply(self, work: Work) -> None:
        if work.body.get(self.param) is None:
            value = work.settings.get(self.setting, self.value)
            work.body.set(self.param, value)
            work.report(self.param, "set_default", to=value, why=self.why)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "default": self.value}}


class DefaultFromSetting(Rule, frozen=True):
    """Sends a default from the provider's settings if the caller sets no value."""

    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    def apply(self, work: Work) -> None:
        value = work.settings.get(self.param)
        if value is not None and work.body.get(self.param) is None:
            work.body.set(self.param, value)
            work.report(self.param, "set_default", why="the provider's settings")


class MapValues(Rule, frozen=True):
    """Maps values of a parameter to values of the field `to`. A value mapped to None is dropped."""

    to: str
    pairs: tuple[tuple[Any, Any], ...]
    shown_as: str = ""
    """The name in the receipt, if it is not `to`."""
    keep_others: bool = False
    """Whether values without a mapping are left to the next rule."""

    @property
    def may_add(self) -> tuple[str, ...]:
        return (self.to,)

    def apply(self, work: Work) -> None:
        """Replace the value. Drop a value without a mapping if `to` is another parameter and `keep_others` is not set."""
        value = work.body.get(self.param)
        for known, mapped in self.pairs:
            if type(known) is type(value) and known == value:
                self._set_mapped(work, mapped)
                return
        if self.to != self.param and not self.keep_others:
            work.drop(self.param)

    def _set_mapped(self, work: Work, means: Any) -> None:
        if means is None:
            work.report(self.param, "drop", why="equals the default")
        elif self.to != self.param and work.body.get(self.to) is not None:
            work.report_lossy(self.param, "drop", f"'{self.to}' is also set", code="conflicting_parameters")
        else:
            work.body.set(self.to, means)
            work.report(self.param, "reshape", to=self.shown_as or self.to)
        if self.to != self.param or means is None:
            work.body.pop(self.param)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "reshape", "to": self.shown_as or self.to}}


class MoveToHeader(Rule, frozen=True):
    """A parameter that the provider accepts as a request header."""

    header: str
    values: tuple[str, ...] = ()
    """Allowed values, if the provider restricts them. Others are dropped."""

    def apply(self, work: Work) -> None:
        """Move the value to the header. Drop a value that is not valid in a header."""
        value = work.body.get(self.param)
        if self.values and value is not None and value not in self.values:
            work.drop(self.param, f"must be one of {', '.join(self.values)}", "invalid_value")
            return
        if value is None:
            work.drop(self.param)
            return
        text = value if type(value) is str else msgspec.json.encode(value).decode() if is_number(value) else ""
        if not text or not text.isascii() or not text.isprintable() or len(text) > 256:
            why = f"as the header {self.header}, it must be printable ASCII of at most 256 characters"
            work.report_lossy(self.param, "drop", why)
            work.body.pop(self.param)
            return
        work.body.pop(self.param)
        work.body.headers[self.header.lower()] = text
        work.report(self.param, "move_to_header", to=self.header)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "move_to_header", "to": self.header}}


class StopsEnforcedLocally(Rule, frozen=True):
    """Removes `stop` for a model that rejects it. The gateway ends the text at the stop strings."""

    param: str = "stop"

    def apply(self, work: Work) -> None:
        """Remove the parameter. The gateway searches every answer for the caller's stop strings, so nothing is lost."""
        if self.param not in work.body:
            return
        if work.body.pop(self.param):
            work.report(self.param, "enforce_locally", why="the model rejects stop strings; the gateway enforces them")
        else:
            work.report(self.param, "drop", why="neutral value")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "enforce_locally"}}


class EnforcedLocally(Rule, frozen=True):
    """A parameter that the gateway enforces itself, or forwards if the provider's setting that `unless` names is true."""

    why: str = ""
    unless: str = ""

    def apply(self, work: Work) -> None:
        """Remove the parameter from the body, unless it is forwarded."""
        if self.unless and work.settings.get(self.unless):
            return
        work.body.pop(self.param)
        work.report(self.param, "enforce_locally", why=self.why)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "enforce_locally"}}
