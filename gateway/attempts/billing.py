"""Bills an attempt that did not answer the call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.call import Aside, Call
from gateway.usage import prompt_tokens
from providers.base import Usage

if TYPE_CHECKING:
    from gateway.response.upstream_exchange import Exchange

ENDED_HERE = frozenset({"left", "header_timeout", "ttft_timeout", "stalled", "timeout"})
"""How attempts end that their upstream would have gone on with."""


def set_aside(call: Call, exchange: Exchange, ended: str) -> None:
    """An attempt that did not answer the call: what its upstream reported all the same is billed, at its own target.

    Where nothing was reported and it was we who ended it (`ended`: a failure's kind, or `left`), the prompt is, if the provider bills it.
    """
    reported = [*exchange.reported, *(relay.usage for relay in exchange.relays if relay.usage is not None)]
    if reported:
        call.usage = None  # an estimate gives way
    elif ended in ENDED_HERE and exchange.place.bills_aborted_prompt and call.written:
        reported.append(Usage(prompt_tokens(call), 0, estimated=True))
    for usage in reported:
        price = exchange.place.price
        call.asides.append(Aside(exchange.target.name, usage, price.usage_cost(usage) if price is not None else 0))
