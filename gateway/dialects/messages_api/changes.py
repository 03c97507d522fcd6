"""Records the parts of a Messages request that a chat completion cannot express."""

from __future__ import annotations

import re

from gateway.errors import BadRequest, refuse
from providers.base import Adjustment

MAX_LISTED = 8
"""Maximum number of adjustments of one kind that are listed one by one. One more entry gives the number of the others."""
_INDEX = re.compile(r"\d+")


class InexpressibleError(BadRequest):
    """A chat completion cannot express a part of the request."""


class Changes:
    """The adjustments of one request, and the refusal if a chat completion cannot express the request.

    In strict mode, every loss is refused.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._counts: dict[tuple[str, str, str], int] = {}
        self.adjustments: list[Adjustment] = []
        self.file_addresses: list[str] = []
        """Parameters with the address of a document."""
        self.refusal: BadRequest | None = None
        """The first refusal; None if there is none."""
        self.loss: BadRequest | None = None
        """The error for the first field that was left out; None if there is none."""

    def refuse(self, error: BadRequest) -> None:
        """Record that the request cannot be sent as a chat completion."""
        self.refusal = self.refusal or error

    def lose(self, param: str, why: str) -> None:
        """Report a field that is left out. In strict mode, record a refusal instead."""
        if self.loss is None:
            self.loss = refuse(param, f"'{param}' cannot be honoured: {why}.", "unsupported_parameter")
        if self._strict:
            self.refuse(self.loss)
        elif self._is_listed("drop", param, why):
            self.adjustments.append(Adjustment(param, "drop", why=why))

    def reshape(self, param: str, why: str) -> None:
        """Report a change of form that loses nothing."""
        if self._is_listed("reshape", param, why):
            self.adjustments.append(Adjustment(param, "reshape", why=why))

    def finish(self) -> list[Adjustment]:
        """Return the adjustments, with the number of those that are not listed one by one."""
        for (action, param, why), count in self._counts.items():
            if count > MAX_LISTED:
                note = f"{why}; {count - MAX_LISTED} more of these"
                self.adjustments.append(Adjustment(param, "drop" if action == "drop" else "reshape", why=note))
        return self.adjustments

    def _is_listed(self, action: str, param: str, why: str) -> bool:
        key = (action, _INDEX.sub("", param), why)
        self._counts[key] = count = self._counts.get(key, 0) + 1
        return count <= MAX_LISTED


def unsupported(param: str, message: str) -> InexpressibleError:
    """Return the 400 for content that a chat completion cannot express."""
    return InexpressibleError(message, param=param, code="unsupported_content")


def wrong_type(param: str, expected: str) -> BadRequest:
    """Return the 400 for a value of the wrong type."""
    return refuse(param, f"'{param}' must be {expected}.", "invalid_type")


def missing(param: str) -> BadRequest:
    """Return the 400 for a required field that is missing."""
    return refuse(param, f"'{param}' is required.", "missing_required_parameter")
