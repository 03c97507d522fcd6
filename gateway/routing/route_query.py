"""Properties of a call that the router needs: session, maximum cost, and the targets that honour its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from gateway.dialects.forwarded_headers import forward_headers
from gateway.emulate.adapt import AdaptedBody, adapt_body
from gateway.errors import BadRequest, from_refusal, unreadable
from gateway.native.choice import native_api
from gateway.native.request import adapt_natively, refusal_of
from gateway.routing.prefix_table import blocks_of
from gateway.tokens.copies import prompt_copies
from gateway.tokens.estimate import output_cap
from providers.base import Body, Refusal, Target

if TYPE_CHECKING:
    from gateway.call import Call
    from gateway.catalog.prices import TokenPrice
    from gateway.config.model import ModelSettings
    from gateway.targets.candidate import Candidate

SESSION_PROMPT_BYTES = 256
"""Number of leading bytes of a plain prompt that identify a conversation."""


class _Role(msgspec.Struct):
    role: str = ""


_decode_messages = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_role = msgspec.json.Decoder(_Role).decode


class RouteQuery:
    """Properties of one call for the router. Those that take long to compute are computed only when they are needed."""

    __slots__ = (
        "_blocks", "_call", "_default_output", "_headers", "_refusals", "is_drawn", "needs_native", "requires_all_parameters", "stream",
    )  # fmt: skip

    def __init__(self, call: Call, headers: Sequence[tuple[bytes, bytes]], default_output: int) -> None:
        """`default_output`: output tokens to expect if the call sets no cap."""
        self._call = call
        self._headers = headers
        self._default_output = default_output
        self._blocks: tuple[bytes, ...] | None = None
        self._refusals: dict[Target, Refusal | None] = {}
        self.stream = call.stream
        self.is_drawn = False
        """Whether a split has chosen one of its options for this call. A second choice would change the shares of the options."""
        self.requires_all_parameters = call.requires_parameters
        """Whether the caller rejects targets that would lose a parameter."""
        self.needs_native = refusal_of(call) is not None
        """Whether a chat completion cannot express the request."""

    def forget_headers(self) -> None:
        """Free the caller's headers. Call this method when no other target will be chosen."""
        self._headers = ()

    def note_diversion(self) -> None:
        """Record that a split passed over the option that it would have chosen, because its target is not live."""
        self._call.is_diverted = True

    def session(self, header: str) -> bytes:
        """Return the id of the conversation: the header, else the field `user`, else the beginning of the prompt."""
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
        """Return the bytes that every later request of the conversation repeats.

        They are the system messages and the first other message, or the beginning of a plain prompt.
        """
        body = self._call.body
        assert body is not None
        raw = body.raw("messages")
        if raw is None:
            return (body.raw("prompt") or body.raw("input") or b"")[:SESSION_PROMPT_BYTES]
        opening = []
        with suppress(msgspec.DecodeError):
            for message in _decode_messages(raw):
                opening.append(bytes(message))
                if _decode_role(message).role not in ("system", "developer"):
                    break
        return b"".join(opening)

    @property
    def prompt_blocks(self) -> tuple[bytes, ...]:
        """The hashes of the blocks at the beginning of the tools and the prompt, in this order, because templates put the tools first."""
        if self._blocks is None:
            body = self._call.body
            assert body is not None
            messages = body.raw("messages")
            text = body.raw("prompt") or body.raw("input") or b"" if messages is None else bytes(messages).rstrip(b"]")
            self._blocks = blocks_of(bytes(body.raw("tools") or b""), bytes(text))
        return self._blocks

    def cost(self, target: Target, price: TokenPrice | None) -> float:
        """Return the maximum cost of prompt and output at a target in nano-dollars, or infinity if the price is unknown."""
        body = self._call.body
        if price is None or body is None:
            return float("inf")
        prompt, copies = self._call.prompt.bound(target), prompt_copies(body, target)
        output = output_cap(body, target, self._default_output, self._call.operation)
        return copies * price.cost(prompt, -(-output // copies))

    async def count(self, targets: Iterable[Target]) -> None:
        """Count the prompt for the targets whose costs are to be compared."""
        await self._call.prompt.count(targets)

    def is_accepted_by(self, candidate: Candidate) -> bool:
        """Return False if the target cannot answer, or if all parameters are required and the target would lose a parameter."""
        if self.needs_native and native_api(self._call, candidate.backend.target, candidate.settings) is None:
            self._refusals[candidate.backend.target] = refusal_of(self._call)
            return False
        required = self.requires_all_parameters or candidate.settings.require_parameters
        return not required or self.honours_all(candidate.backend.target, candidate.settings)

    def honours_all(self, target: Target, settings: ModelSettings) -> bool:
        """Return whether the target honours every parameter of the call, according to the rules that adapt the request."""
        if target not in self._refusals:
            self._refusals[target] = self._refusal(target, settings)
        return self._refusals[target] is None

    def no_target_error(self, target: Target | None = None) -> BadRequest:
        """Return a 400 that names the first parameter lost at `target`, or at the first checked target that loses one."""
        refusals = [self._refusals[target]] if target is not None else self._refusals.values()
        return from_refusal(next(refusal for refusal in refusals if refusal is not None))

    def _refusal(self, target: Target, settings: ModelSettings) -> Refusal | None:
        """Adapt a copy of the request in strict mode, in which a lost parameter or header is an error. Return this error, or None."""
        body = self._call.body
        assert body is not None
        try:
            adapted = self._adapted(body, target, settings)
            if (headers := self._call.headers) is not None and headers.vendor:
                forward_headers(headers, target, adapted.body, strict=True)
        except Refusal as refusal:
            return refusal
        except (msgspec.DecodeError, RecursionError) as error:
            raise unreadable(error) from None
        return None

    def _adapted(self, body: Body, target: Target, settings: ModelSettings) -> AdaptedBody:
        """Return the request as adapted in strict mode. Raise Refusal if a parameter would be lost, or if the call cannot be sent."""
        call = self._call
        if call.source is not None and (api := native_api(call, target, settings)) is not None:
            return adapt_natively(call, call.source.copy(), api, target, strict=True)
        if (refusal := refusal_of(call, strict=True)) is not None:
            raise refusal
        copy = body.copy()
        if call.translator is not None:
            call.translator.fit_to(copy, target, strict=True)
        return adapt_body(copy, target, call.operation, strict=True, stream=call.stream)
