"""Rules for `store` of the Responses API: the gateway stores responses itself, so that any target can continue them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from providers.rules.rule import Rule, Work

ENCRYPTED = "reasoning.encrypted_content"


class StoredByGateway(Rule, frozen=True):
    """Prevents the vendor from storing responses, which it does unless `store` is false."""

    param: str = "store"
    encrypts: bool = False
    """Whether the model reasons. Its reasoning can be sent back only if it is encrypted."""

    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    def apply(self, work: Work) -> None:
        """Set `store` to false unless the caller did so. If it is set here and the model reasons, also request encrypted reasoning."""
        body = work.body
        if body.get(self.param) is False:
            return
        body.set(self.param, False)
        why = "the vendor would store the response; the gateway stores it instead if the caller requests this"
        work.report(self.param, "set_default", to=False, why=why)
        include = body.get("include")
        include = include if type(include) is list else []
        if self.encrypts and ENCRYPTED not in include:
            body.set("include", [*include, ENCRYPTED])
            work.report("include", "set_default", to=ENCRYPTED, why="reasoning can be sent back only if it is encrypted")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "advice": "the gateway stores responses itself"}}
