"""How an API passes unchanged between its callers and the providers that speak it themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.dialects.parameters import CHECKS
from gateway.streams.native_relay import EventReader
from providers.base import Adjustment, Answer, Body, Operation
from providers.rules.rule import CANONICAL_PARAMS

GATEWAY_FIELDS = frozenset({"timeout_microseconds"})
"""Fields that the gateway itself honours for every API. The rules of a provider remove them."""
CHAT_FIELDS = (CANONICAL_PARAMS | CHECKS.keys()) - GATEWAY_FIELDS
"""Fields of chat completions, with those that vendors added."""


class TokenCount(NamedTuple):
    """How a provider counts the tokens of a prompt."""

    suffix: str
    """What follows the path of the operation."""
    read: Callable[[bytes], int]
    """Returns the tokens in an answer. Raises ValueError for any other body."""


class NativeApi(NamedTuple):
    """What the gateway must know of an API to pass its calls: names in the request, and how responses are read."""

    operation: Operation
    """The operation of providers that speak this API."""
    fields: frozenset[str]
    """The fields of a request. A request with other fields of chat completions is translated; unknown fields are passed."""
    output_cap: str
    """The field with the maximum number of output tokens."""
    headers: tuple[str, ...]
    """Request headers of this API that a provider gets, unless its configuration sets them."""
    read_answer: Callable[[bytes], Answer]
    """Reads usage and finish reasons of a JSON answer, which keeps its bytes. Raises ValueError for anything else."""
    new_reader: Callable[[], EventReader]
    """Returns the reader of one stream."""
    uncounted: frozenset[str] = frozenset()
    """Fields whose content may add tokens that the gateway cannot count. Under a strict limit, calls with them are translated."""
    prepare: Callable[[Body, Any, bool], list[Adjustment]] | None = None
    """Changes a copy of the caller's request, given the call's translator and whether it is strict, before the provider's
    rules apply. Raises Refusal if the request cannot be sent.
    """
    token_count: TokenCount | None = None
    """None if providers count no tokens without generating some."""

    def foreign_field(self, names: frozenset[str]) -> str | None:
        """Return a field of chat completions that this API lacks, or None."""
        return min((names & CHAT_FIELDS) - self.fields, default=None)
