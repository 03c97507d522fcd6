"""Limits in the life of a call: what it reserves of which limits, what it used in the end, and what its caller is told."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway import usage as accounting
from gateway.catalog.prices import TokenPrice, price_of
from gateway.config.limit import LimitsConfig
from gateway.config.types import Config
from gateway.errors import Forbidden, Headers, LimitReached, Unavailable, retry_after_headers
from gateway.limits.bounds import max_prompt_tokens
from gateway.limits.budget_gauge import BudgetGauge
from gateway.store.from_config import limits_in, needs_token_count
from gateway.store.limit import (
    NO_COSTS,
    TOKEN_KINDS,
    Costs,
    Limit,
    Limiter,
    LimitStatus,
    Refusal,
    Reservation,
    has_strict_limit,
    needed_estimates,
)
from gateway.store.memory import MemoryLimiter
from gateway.tokens.estimate import choice_count, estimate_prompt, output_cap, requested_cap
from providers.base import Failure, Target

if TYPE_CHECKING:
    from gateway.call import Attempt, Call
    from gateway.metrics import Metrics

MOST_USERS = 10_000
"""Users whose limits are kept ready; they are counted in the store whether kept here or not."""
_NONE = LimitsConfig()
DEGRADED = (b"x-gateway-limits", b"degraded")




class Limits:
    """The limits of one configuration; they are counted in a store that outlives it."""

    def __init__(self, config: Config, limiter: Limiter, metrics: Metrics) -> None:
        self.limiter = limiter
        self._config = config
        self._metrics = metrics
        self.budget_gauge = BudgetGauge()
        self._mode = "memory" if isinstance(limiter, MemoryLimiter) else "shared"
        self._models = {name: limits_in(one.limits, f"model:{name}", "caller") for name, one in config.models.items()}
        self._providers = {
            name: found for name, one in config.providers.items() if (found := limits_in(one.limits, f"provider:{name}", "target"))
        }
        self._targets = {
            f"{name}/{model}": self._providers.get(name, ()) + limits_in(target.limits, f"target:{name}/{model}", "target")
            for name, one in config.providers.items()
            for model, target in one.models.items()
        }
        self._each: dict[tuple[str, str], tuple[tuple[Limit, ...], LimitsConfig]] = {}
        targets = (*self._providers.values(), *self._targets.values())
        own = [limit for block in (*self._models.values(), *targets) for limit in block]
        teams = [limit for team in config.teams.values() for limit in limits_in(team.limits, "")]
        self.counts_tokens = needed_estimates([*own, *teams])[0] or any(map(needs_token_count, config.keys.values()))
        """Whether calls' tokens are estimated before they are made, as far as the configuration tells."""
        self.has_target_limits = any(targets)
        """Whether some provider or target has limits of its own."""

    def of_caller(self, call: Call, model: str) -> tuple[Limit, ...]:
        """The limits of a call's key, of its user and of its model."""
        limits = self._models.get(model, ())
        if (key := call.key) is not None:
            limits = key.limits + limits
            if key.limits_per_user is not None:
                limits += self._per_user(call, key.name, key.limits_per_user)
        return limits

    async def admit(self, call: Call, limits: Sequence[Limit], targets: Sequence[Target]) -> None:
        """Reserve what the call may take of its caller's limits. LimitReached or Unavailable otherwise."""
        call.strict_limits = has_strict_limit(limits)
        found = await self.limiter.admit(limits, self._costs(call, targets, limits), call.id)
        call.limit_headers = _headers(found)
        self.budget_gauge.record(found.statuses)
        self._count(limits, found)
        if isinstance(found, Refusal):
            raise _error(found)
        call.reservation = found

    async def admit_target(self, call: Call, target: Target) -> Reservation | Failure | None:
        """The same for the limits of a provider and of the target itself, for one attempt; a Failure sends the call to the next place."""
        limits = self._of_target(target)
        if not limits:
            return None
        found = await self.limiter.admit(limits, self._costs(call, (target,), limits), f"{call.id}.{len(call.attempts)}")
        self.budget_gauge.record(found.statuses)
        self._count(limits, found)
        if isinstance(found, Reservation):
            return found
        if found.unavailable:
            return Failure("overloaded", "the store of limits is out of reach", retry_after=found.retry_after)
        kind = "quota" if found.limit.kind == "spend" and not found.busy else "rate_limit"
        return Failure(kind, f"the gateway's own limit of {found.limit} is used up", retry_after=found.retry_after)  # type: ignore[arg-type]

    def _of_target(self, target: Target) -> tuple[Limit, ...]:
        found = self._targets.get(target.name)
        return found if found is not None else self._providers.get(target.provider, ())

    def reserved_output_cap(self, call: Call, target: Target) -> int | None:
        """The cap on its output that a call without one gets, because a strict limit reserved as much."""
        if call.operation not in ("chat", "completions") or call.body is None or requested_cap(call.body) is not None:
            return None
        return self._config.default_output_tokens if call.strict_limits or has_strict_limit(self._of_target(target)) else None

    def settle(self, call: Call, reservation: Reservation) -> None:
        """Replace the reservation by what the call used: nothing if it reached no upstream."""
        made = bool((call.attempts and call.attempts[-1].head_at) or (call.abort_phase and call.is_written))
        self._settle(call.attempts, reservation, Costs() if made else NO_COSTS)

    def settle_attempt(self, attempt: Attempt, reservation: Reservation) -> None:
        """Replace the reservation at a target by what the attempt used; it counts as a request in any case."""
        self._settle((attempt,), reservation, Costs())

    def _settle(self, attempts: Sequence[Attempt], reservation: Reservation, unused: Costs) -> None:
        """Settle by the bill of the attempts, `unused` if they have none.

        If usage was estimated, a strict limit on tokens keeps what was reserved.
        """
        bill = accounting.bill(attempts)
        if bill is None:
            self.limiter.settle(reservation, unused)
            return
        is_strict = any(limit.strict and limit.kind in TOKEN_KINDS for limit in reservation.limits)
        if is_strict and accounting.is_estimated(attempts):
            held = reservation.costs
            bill = accounting.Bill(max(bill.prompt, held.prompt_tokens), max(bill.output, held.output_tokens), bill.cost)
        self.limiter.settle(reservation, Costs(1, *bill))

    def _count(self, limits: Sequence[Limit], found: Reservation | Refusal) -> None:
        """One decision for each limit that admitted, or for the one that refused."""
        decision = "admitted" if isinstance(found, Reservation) else "refused"
        for limit in limits if isinstance(found, Reservation) else (found.limit,):
            mode = limit.outage if found.degraded else self._mode
            self._metrics.count("lockgate_limit_decisions", (limit.owner.partition(":")[0], limit.kind, decision, mode))

    def _per_user(self, call: Call, key: str, block: LimitsConfig) -> tuple[Limit, ...]:
        """The limits of the caller's own user, if the call names one."""
        user = call.body.get("user") if call.body is not None and "user" in call.body else None
        if not isinstance(user, str) or not user:
            return ()
        found, known = self._each.get((key, user), ((), _NONE))
        if known is not block:
            owner = f"user:{key}:{hashlib.sha256(user.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
            found = limits_in(block, owner, strict=call.key is not None and call.key.strict)
            if len(self._each) >= MOST_USERS:
                self._each.clear()
            self._each[key, user] = found, block
        return found

    def _costs(self, call: Call, targets: Sequence[Target], limits: Sequence[Limit]) -> Costs:
        """What to reserve: the prompt, and all the output that the call may ask for; at the price of its dearest target."""
        tokens, money = needed_estimates(limits)
        if not tokens:
            return Costs()
        assert call.body is not None
        body, default = call.body, self._config.default_output_tokens
        if has_strict_limit(limits):
            prompt, output = max_prompt_tokens(call), (requested_cap(body) or default) * choice_count(body)
            return Costs(1, prompt, output, max(self._price(target).max_cost(prompt, output) for target in targets) if money else 0)
        prompt = estimate_prompt(body, call.body_bytes, targets[0])
        output = max(output_cap(body, target, default) for target in targets)
        spend = max(self._price(target).cost(prompt, output) for target in targets) if money else 0
        return Costs(1, prompt, output, spend)

    def _price(self, target: Target) -> TokenPrice:
        """What a budget is charged by. Files without it are refused; a key made at run time may be older than the model."""
        found = price_of(self._config.providers[target.provider], target.model)
        if found is None:
            text = f"A budget holds for this call, and what it would cost is not known: {target.name} has no price at this gateway."
            raise Forbidden(text, code="price_unknown", param="model")
        return found




def _error(refusal: Refusal) -> LimitReached | Unavailable:
    """The caller's answer: OpenAI's words, the limit that binds, and when to come again."""
    limit = refusal.limit
    what, _, name = limit.owner.partition(":")
    whose = "this user" if what == "user" else f"the {what} '{name}'"
    if refusal.unavailable:
        text = f"The limit of {limit} for {whose} cannot be checked: its store is out of reach."
        return Unavailable(text, code="limiter_unavailable", retry_after=refusal.retry_after or 1.0)
    if refusal.retry_after is None:
        text = f"This request alone is over the limit of {limit} for {whose}; lower max_tokens or shorten the prompt."
        return LimitReached(text, type=_type(limit), code=_code(limit), headers=((b"x-should-retry", b"false"),))
    wait = refusal.retry_after * (1 + random.random() / 10)  # not all at the same moment
    headers: Headers = retry_after_headers(wait)
    if refusal.busy:
        text = f"The rest of the budget of {limit} for {whose} is reserved by calls under way. Please try again in {go_duration(wait)}."
        return LimitReached(text, type="requests", code="rate_limit_exceeded", headers=headers)
    if limit.kind == "spend":
        headers = (*headers, (b"x-should-retry", b"false"))
        some_left = any(one.limit is limit and one.remaining > 0 for one in refusal.statuses)
        text = f"The budget of {limit} for {whose} is used up."
        if some_left:
            text = f"What is left of the budget of {limit} for {whose} is less than this request may cost; lower max_tokens."
    else:
        text = f"Rate limit reached for {whose}: {limit}. Please try again in {go_duration(wait)}."
    return LimitReached(text, type=_type(limit), code=_code(limit), headers=headers)


def _type(limit: Limit) -> str:
    if limit.kind == "spend":
        return "insufficient_quota"
    return "tokens" if limit.kind in TOKEN_KINDS else "requests"


def _code(limit: Limit) -> str:
    return "insufficient_quota" if limit.kind == "spend" else "rate_limit_exceeded"


def _headers(found: Reservation | Refusal) -> Headers:
    """How the tightest limits on requests and on tokens stand, in OpenAI's headers."""
    headers: list[tuple[bytes, bytes]] = []
    for word, kinds in (("requests", frozenset({"requests"})), ("tokens", TOKEN_KINDS)):
        tightest: LimitStatus | None = None
        for one in found.statuses:
            if one.limit.kind in kinds and (tightest is None or one.remaining < tightest.remaining):
                tightest = one
        if tightest is not None:
            headers.append((b"x-ratelimit-limit-" + word.encode(), b"%d" % tightest.limit.amount))
            headers.append((b"x-ratelimit-remaining-" + word.encode(), b"%d" % tightest.remaining))
            headers.append((b"x-ratelimit-reset-" + word.encode(), go_duration(tightest.reset_s).encode()))
    if found.degraded:
        headers.append(DEGRADED)
    return headers


def go_duration(seconds: float) -> str:
    """`12ms`, `1.5s`, `6m0s`, `1h0m0s`: what OpenAI's headers and Go's time.ParseDuration have."""
    ms = max(0, round(seconds * 1000))
    if ms < 1000:
        return f"{ms}ms"
    hours, ms = divmod(ms, 3_600_000)
    minutes, ms = divmod(ms, 60_000)
    rest = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes}m{rest}" if hours else f"{minutes}m{rest}" if minutes else rest
