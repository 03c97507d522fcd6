"""What a route may know of the call that it is found for: its session, its likely cost, and the parameters it sets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from gateway.emulate import json_mode, logits
from gateway.errors import BadRequest, from_refusal, unreadable
from gateway.limits.enforce import prompt_tokens
from gateway.tokens.estimate import output_cap
from providers.base import Options, Refusal, Target

if TYPE_CHECKING:
    from gateway.call import Call
    from gateway.catalog.prices import TokenPrice

PREFIX = 256
"""Bytes of a bare prompt that stand for its conversation."""


class _Role(msgspec.Struct):
    role: str = ""


_decode_messages = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_role = msgspec.json.Decoder(_Role).decode


class RouteQuery:
    """One call as its route sees it. Nothing is worked out before it is asked for."""

    __slots__ = ("_call", "_headers", "_output", "_refusals", "requires_all_parameters", "stream")

    def __init__(self, call: Call, headers: Sequence[tuple[bytes, bytes]], output: int) -> None:
        """`output`: tokens to expect of a call that says nothing of its length."""
        self._call = call
        self._headers = headers
        self._output = output
        self._refusals: dict[Target, Refusal | None] = {}
        self.stream = call.stream
        self.requires_all_parameters = call.require
        """The caller wants no target that would lose a parameter."""

    def session(self, header: str) -> bytes:
        """What names the conversation: the header, else `user`, else how the prompt begins."""
        wanted = header.encode()
        for name, value in self._headers:
            if name == wanted and value:
                return b"h" + value
        body = self._call.body
        assert body is not None
        user = body.get("user") if "user" in body else None
        if isinstance(user, str) and user:
            return b"u" + user.encode("utf-8", "surrogatepass")
        return b"p" + self._opening()

    def _opening(self) -> bytes:
        """The system messages and the first turn, which every later request of a conversation repeats byte for byte."""
        body = self._call.body
        assert body is not None
        raw = body.raw("messages")
        if raw is None:
            return (body.raw("prompt") or body.raw("input") or b"")[:PREFIX]
        found = []
        with suppress(msgspec.DecodeError):
            for message in _decode_messages(raw):
                found.append(bytes(message))
                if _decode_role(message).role not in ("system", "developer"):
                    break
        return b"".join(found)

    def cost(self, target: Target, price: TokenPrice | None) -> float:
        """Nano-dollars that this call may cost there: its prompt, and all the output it asks for. Infinite when nobody knows."""
        body = self._call.body
        if price is None or body is None:
            return float("inf")
        return price.cost(prompt_tokens(self._call, target), output_cap(body, target, self._output))

    def honours_all(self, target: Target) -> bool:
        """Whether the target would honour every parameter that this call sets, by the very rules that adapt it."""
        if target not in self._refusals:
            self._refusals[target] = self._refusal(target)
        return self._refusals[target] is None

    def no_target_error(self, target: Target | None = None) -> BadRequest:
        """The 400 for a call that no target (or not this one) can take whole: it names the first parameter that would be lost."""
        refusals = [self._refusals[target]] if target is not None else self._refusals.values()
        return from_refusal(next(refusal for refusal in refusals if refusal is not None))

    def _refusal(self, target: Target) -> Refusal | None:
        """A dry run in strict mode: what would be lost is refused there."""
        body = self._call.body
        assert body is not None
        try:
            if self._call.operation == "logits" and not logits.is_native(target.kind):
                asked = logits.read(body)
                logits.adapt(logits.as_chat(body, asked), asked, target, Options(strict=True))
            else:
                json_mode.adapt(body.copy(), target, Options(True, self._call.stream, self._call.operation))
        except Refusal as refusal:
            return refusal
        except (msgspec.DecodeError, RecursionError) as error:
            raise unreadable(error) from None
        return None
