"""The changes that a translation makes to a request. They are reported in the receipt; in strict mode, losses are refused."""

from __future__ import annotations

from typing import Any

from gateway.errors import BadRequest, refuse
from providers.base import Action, Adjustment


class Changes:
    """The changes made to one request."""

    __slots__ = ("file_addresses", "first_loss", "made", "strict")

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.made: list[Adjustment] = []
        self.file_addresses: list[str] = []
        """The caller's parameters that are addresses of files."""
        self.first_loss: BadRequest | None = None
        """The error for the first change with loss; None if there is none."""

    def without_loss(self, param: str, why: str, action: Action = "drop") -> None:
        """Report a change that loses nothing."""
        self.made.append(Adjustment(param, action, why=why))

    def warn(self, param: str, why: str) -> None:
        """Report a difference between the defaults of the two APIs. The same reason is reported only once."""
        if not any(each.action == "warn" and each.why == why for each in self.made):
            self.made.append(Adjustment(param, "warn", why=why))

    def loss(self, param: str, why: str, action: Action = "drop", *, to: Any = None) -> None:
        """Report a change with loss. In strict mode, raise BadRequest instead."""
        error = refuse(param, f"'{param}' cannot be honoured: {why}.", "unsupported_parameter")
        if self.strict:
            raise error
        self.first_loss = self.first_loss or error
        self.made.append(Adjustment(param, action, to=to, why=why))
