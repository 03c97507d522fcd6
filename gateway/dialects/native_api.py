"""Describes how the calls of an API pass unchanged to providers that offer the same API."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gateway.dialects.parameters import CHECKS
from gateway.streams.native_relay import EventReader
from providers.base import Adjustment, Answer, Body, Operation, Target
from providers.rules.rule import CANONICAL_PARAMS

GATEWAY_FIELDS = frozenset({"timeout_microseconds"})
"""Fields that the gateway itself honours for every API. The rules of each provider remove them."""
CHAT_FIELDS = (CANONICAL_PARAMS | CHECKS.keys()) - GATEWAY_FIELDS
"""Fields of chat completions, including those that vendors added."""


class TokenCount(NamedTuple):
    """The request with which a provider counts the tokens of a prompt."""

    suffix: str
    """The end of the path, after that of the operation."""
    read: Callable[[bytes], int]
    """Returns the number of tokens that an answer reports. Raises ValueError for any other body."""


class NativeApi(NamedTuple):
    """The parts of an API that matter if calls of the API pass unchanged: names in the request, and readers of responses."""

    operation: Operation
    """The operation that providers with this API offer."""
    fields: frozenset[str]
    """The fields of a request. A request with another field of chat completions is translated; unknown fields pass."""
    output_cap: str
    """The field with the maximum number of output tokens, or "" if the API has none."""
    headers: tuple[str, ...]
    """Request headers of this API that a provider gets, unless its configuration sets them."""
    read_answer: Callable[[bytes], Answer]
    """Reads usage and finish reasons of a JSON answer, which keeps its bytes. Raises ValueError for any other body."""
    new_reader: Callable[[], EventReader]
    """Returns the reader of one stream."""
    uncounted: frozenset[str] = frozenset()
    """Fields whose content may add tokens that the gateway cannot count. Under a strict limit, calls with them are translated."""
    translate_plain: Callable[[Any, Body], Body | None] | None = None
    """Translates the usual request at once (`gateway.dialects.plain_request`). Returns None for any other request.

    The first argument is the call's translator, whose `request` would return the same chat completion.
    """
    prepare: Callable[[Body, Any, bool], list[Adjustment]] | None = None
    """Changes a copy of the caller's request before the provider's rules apply. Raises Refusal if the request cannot be sent.

    The other arguments are the call's translator, and whether the call is strict.
    """
    unsuited: Callable[[Body], str | None] | None = None
    """Returns why a request is translated although a chat completion can express it, or None."""
    unsuited_target: Callable[[Target], str | None] | None = None
    """Returns why calls to a target are translated although its provider has the API, or None."""
    token_count: TokenCount | None = None
    """The request that counts the tokens of a prompt; None if the API has none."""

    def foreign_field(self, names: Iterable[str]) -> str | None:
        """Return one of `names` that chat completions have and this API lacks, or None."""
        if self.fields.issuperset(names):  # the usual case
            return None
        return min(CHAT_FIELDS.intersection(names) - self.fields, default=None)
