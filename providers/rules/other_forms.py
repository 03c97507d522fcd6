"""Rules for parameters that some vendors accept in a form other than OpenAI's, such as a number or a string."""

from __future__ import annotations

from typing import Any, ClassVar

from providers.rules.rule import Rule, Work


class _OtherForm(Rule, frozen=True):
    """A rule for every vendor that has the parameter, in addition to a model's own rules."""

    defines: ClassVar[bool] = False

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


class CountedLogprobs(_OtherForm, frozen=True):
    """A number as `logprobs` (Fireworks, Together), which is `top_logprobs` at other vendors."""

    param: str = "logprobs"

    @property
    def may_add(self) -> tuple[str, ...]:
        return ("top_logprobs",)

    def apply(self, work: Work) -> None:
        """Replace a number with OpenAI's two parameters. If `top_logprobs` is set as well, it takes precedence."""
        body = work.body
        count = body.get(self.param)
        if type(count) is not int:
            return
        body.set(self.param, True)
        if count and body.get("top_logprobs") is None:
            body.set("top_logprobs", count)
        work.report(self.param, "reshape", from_=count, to="top_logprobs", why="the upstream accepts only true or false")


class PredictionText(_OtherForm, frozen=True):
    """A string as `prediction` (Fireworks), which is an object at other vendors."""

    param: str = "prediction"

    def apply(self, work: Work) -> None:
        """Put the text into OpenAI's object."""
        text = work.body.get(self.param)
        if type(text) is str:
            work.body.set(self.param, {"type": "content", "content": text})
            work.report(self.param, "reshape", to="prediction.content", why="the upstream accepts only an object")
