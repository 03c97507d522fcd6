"""Enforces limits: finds those that apply to a call, reserves its maximum usage, and settles its actual usage."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway import accounting
from gateway.catalog.prices import FREE, TokenPrice, price_of
from gateway.config.issuer import policy_keys
from gateway.config.key import KeyConfig, TeamConfig
from gateway.config.limit import LimitsConfig
from gateway.config.types import Config
from gateway.errors import Forbidden, GatewayError
from gateway.keys.virtual_key import VirtualKey, limits_for
from gateway.limits.bounds import max_output_tokens, max_prompt_tokens, max_search_units, requested_tier
from gateway.limits.budget_gauge import BudgetGauge
from gateway.limits.in_flight import InFlight
from gateway.limits.refusal import UNNAMED, rate_limit_headers, refusal_error, told_wait
from gateway.store.from_config import limits_in, needs_token_count
from gateway.store.limit import (
    NO_COSTS,
    Costs,
    Limit,
    Limiter,
    Refusal,
    Reservation,
    has_strict_limit,
    needed_estimates,
)
from gateway.store.limit_set import LimitSet, limit_set
from gateway.store.memory import MemoryLimiter
from gateway.tokens.copies import prompt_copies
from gateway.tokens.estimate import choice_cap, output_cap, requested_cap
from gateway.tokens.inputs import WITHOUT_OUTPUT, search_units
from providers.base import Failure, FailureKind, Target

if TYPE_CHECKING:
    from gateway.call import Attempt, Call
    from gateway.metrics import Metrics

MAX_CACHED_USERS = 10_000
"""Maximum number of users whose `Limit` objects are cached, and of cached prices. The usage of users is counted in the store, not here."""
PASSED_COSTS = Costs(1, 1, 1, 1)
"""The amounts that a passed call reserves before its usage is known, so that a used-up limit refuses the call."""
ONE_REQUEST = Costs()
"""The usage of a call that was sent and is not billed."""
_NO_LIMITS = LimitsConfig()


class Limits:
    """The limits of one configuration. Their usage is counted in a store that outlives the configuration."""

    def __init__(self, config: Config, limiter: Limiter, metrics: Metrics, in_flight: InFlight | None = None) -> None:
        """`in_flight` has the amounts that calls in flight reserve. All configurations of a process share it."""
        self.limiter = limiter
        self._config = config
        self._metrics = metrics
        self.budget_gauge = BudgetGauge()
        self.in_flight = in_flight if in_flight is not None else InFlight()
        """The amounts that calls in flight of this process reserve."""
        self._mode = "memory" if isinstance(limiter, MemoryLimiter) else "shared"
        self._models = {
            name: limits for name, model in config.models.items() if (limits := limits_in(model.limits, f"model:{name}", "caller"))
        }
        self._providers = {
            name: limits
            for name, provider in config.providers.items()
            if (limits := limits_in(provider.limits, f"provider:{name}", "target"))
        }
        self._targets = {
            f"{name}/{model}": limit_set(self._providers.get(name, ()) + limits_in(target.limits, f"target:{name}/{model}", "target"))
            for name, provider in config.providers.items()
            for model, target in provider.models.items()
        }
        self._admitted_cells: dict[LimitSet, tuple[int, ...]] = {}
        """For each set of limits, the cells of the counters of its limits that admit a call."""
        self._prices: dict[str, TokenPrice] = {}
        self._users: dict[tuple[str, str], tuple[tuple[Limit, ...], LimitsConfig]] = {}
        targets = (*self._providers.values(), *self._targets.values())
        own = [limit for block in (*self._models.values(), *targets) for limit in block]
        policies = [policy for _, policy in policy_keys(config.issuers)]
        entries: tuple[KeyConfig | TeamConfig, ...] = (*config.teams.values(), *config.keys.values(), *policies)
        self.counts_tokens = needed_estimates(own)[0] or any(map(needs_token_count, entries))
        """Whether a limit in the configuration needs an estimate of a call's tokens."""
        self.has_target_limits = any(targets)
        """Whether any provider or target has limits."""

    def of_caller(self, call: Call, model: str) -> LimitSet:
        """Return the limits of the call's key, team, user and model."""
        limits = self._models.get(model, ())
        if (key := call.key) is not None:
            limits = (limits_for(key, call.model) if key.model_limits and call.model else key.limits) + limits
            if key.limits_per_user is not None:
                limits += self._of_user(call, key, key.limits_per_user)
        return limit_set(limits)

    async def admit(self, call: Call, limits: Sequence[Limit], targets: Sequence[Target]) -> None:
        """Reserve the call's maximum usage under its caller's limits. Raise LimitReached or Unavailable if the call is refused."""
        call.strict_limits = has_strict_limit(limits)
        await _count_prompt(call, targets, limits)
        costs = self._costs(call, targets, limits)
        self.decided(call, limits, costs, await self.limiter.admit(limits, costs, call.id))

    def costs_now(self, call: Call, limits: Sequence[Limit], targets: Sequence[Target]) -> Costs | None:
        """Return the amounts to reserve, or None if the prompt must be counted in a thread or a limit is strict."""
        needs = limit_set(limits).needs
        if needs.is_strict:
            return None
        if needs.tokens:
            body, prompts = call.body, call.prompt
            if len(targets) == 1 and not needs.cost and call.operation == "chat" and body is not None and "n" not in body:  # the usual case
                count = prompts.known(targets[0])
                return None if count is None else Costs(1, count, choice_cap(body, targets[0], self._config.default_output_tokens))
            if any(prompts.known(target) is None for target in targets):
                return None
        return self._costs(call, targets, limits)

    def decided(self, call: Call, limits: Sequence[Limit], costs: Costs, decision: Reservation | Refusal) -> None:
        """Record the decision on a call. Raise LimitReached or Unavailable if the call is refused."""
        if isinstance(decision, Refusal):
            decision = self.in_flight.judge(decision, costs)
        call.limit_headers = rate_limit_headers(decision)
        self._note(limits, decision)
        if isinstance(decision, Refusal):
            call.limit_states = self.in_flight.states(decision)
            self.budget_gauge.note_refusal(decision)
            raise refusal_error(decision, has_output=call.operation not in WITHOUT_OUTPUT)
        self.in_flight.add(decision)
        call.reservation = decision

    async def admit_target(self, call: Call, target: Target) -> Reservation | Failure | None:
        """Reserve one attempt's usage under the limits of its provider and target.

        Return None if there are no limits, or a Failure if a limit refuses the attempt, so that the next candidate is tried.
        """
        limits = self.of_target(target)
        if not limits:
            return None
        await _count_prompt(call, (target,), limits)
        costs = self._costs(call, (target,), limits)
        decision = await self.limiter.admit(limits, costs, self.new_target_id(call))
        if isinstance(decision, Refusal):
            decision = self.in_flight.judge(decision, costs)
        self.note_target(limits, decision)
        if isinstance(decision, Reservation):
            return decision
        call.limit_states = [*call.limit_states, *self.in_flight.states(decision)]
        self.budget_gauge.note_refusal(decision)
        if decision.unavailable:
            return Failure("overloaded", "the limit store is unavailable", retry_after=decision.retry_after, is_own=True)
        state = "reserved by calls in flight" if decision.busy else "used up"
        text = f"the gateway's own limit of {decision.limit} is {state}"
        if decision.retry_after is None:
            text = f"this request alone exceeds the gateway's own limit of {decision.limit}"
        kind: FailureKind = "quota" if decision.limit.kind == "spend" and not decision.busy else "rate_limit"
        wait = told_wait(decision)
        return Failure(kind, text, retry_after=math.inf if wait is None else wait, is_own=True)

    @staticmethod
    def new_target_id(call: Call) -> str:
        """Return an id for a reservation of a call under the limits of a target. Each id is returned once."""
        call.target_reservations += 1
        return f"{call.id}.{call.target_reservations}"

    def note_target(self, limits: Sequence[Limit], decision: Reservation | Refusal) -> None:
        """Count the decision on an attempt."""
        self._note(limits, decision)
        if isinstance(decision, Reservation):
            self.in_flight.add(decision)

    def of_target(self, target: Target) -> tuple[Limit, ...]:
        """Return the limits of a target and its provider."""
        limits = self._targets.get(target.shared_name or target.name)
        return limits if limits is not None else self._providers.get(target.provider, ())

    def reserved_output_cap(self, call: Call, target: Target) -> int | None:
        """Return the output cap that a strict limit reserved for a call without its own cap, else None."""
        if call.operation not in ("chat", "completions") or call.body is None or requested_cap(call.body) is not None:
            return None
        is_strict = call.strict_limits or has_strict_limit(self.of_target(target))
        return self._config.default_output_tokens if is_strict else None

    def settle(self, call: Call, reservation: Reservation) -> None:
        """Replace the reservation with the usage of the call, which is 0 if no upstream was reached."""
        attempts = call.attempts
        reached_upstream = bool((attempts and attempts[-1].head_at) or (call.abort_phase and call.is_written))
        uncounted = 0
        if call.credentials and not _budgets_brought(call):
            own = accounting.bill([attempt for attempt in call.attempts if attempt.target.brought])
            uncounted = own.cost if own is not None else 0
        self._settle(attempts, reservation, ONE_REQUEST if reached_upstream else NO_COSTS, uncounted)

    def settle_attempt(self, attempt: Attempt, reservation: Reservation, *, is_sent: bool = True) -> None:
        """Replace the reservation at a target with the usage of the attempt.

        An attempt that was sent counts as a request even if no usage is billed.
        """
        self._settle((attempt,), reservation, ONE_REQUEST if is_sent else NO_COSTS)

    def _settle(self, attempts: Sequence[Attempt], reservation: Reservation, unused: Costs, uncounted: int = 0) -> None:
        """Settle the billed usage of the attempts, or `unused` if no attempt is billed.

        `uncounted` is the part of the cost that budgets do not count.
        If usage was estimated, at least the reserved amount is charged to a strict token limit.
        """
        needs = limit_set(reservation.limits).needs
        self.in_flight.remove(reservation)
        if needs.has_budgets:
            self.budget_gauge.note(reservation.limits)
        bill = accounting.bill(attempts)
        if bill is None:
            self.limiter.settle(reservation, unused)
            return
        if needs.has_strict_tokens and accounting.is_estimated(attempts):
            reserved = reservation.costs
            prompt, output = max(bill.prompt, reserved.prompt_tokens), max(bill.output, reserved.output_tokens)
            bill = accounting.Bill(prompt, output, bill.cost)
        self.limiter.settle(reservation, remaining_costs(reservation, bill, bill.cost - uncounted))

    @staticmethod
    def budgets_count(call: Call, target: Target) -> bool:
        """Return whether the budgets of the caller count the cost of a call at a target."""
        return not target.brought or _budgets_brought(call)

    def used_up(self, refusal: Refusal) -> GatewayError:
        """Count a running call that a limit ends, and return the error that describes the limit."""
        self._count((), refusal)
        self.budget_gauge.note_refusal(refusal)
        return refusal_error(refusal)

    def _note(self, limits: Sequence[Limit], decision: Reservation | Refusal) -> None:
        """Note the budgets of a decision, and count the decision."""
        known = limit_set(limits)
        if known.needs.has_budgets:
            self.budget_gauge.note(limits)
        if not isinstance(decision, Reservation) or decision.degraded:
            self._count(limits, decision)
            return
        cells = self._admitted_cells.get(known)
        if cells is None:
            if len(self._admitted_cells) >= MAX_CACHED_USERS:
                self._admitted_cells.clear()
            labels = [(limit.scope, limit.kind, "admitted", self._mode) for limit in limits]
            cells = tuple([self._metrics.series.cell("lockgate_limit_decisions", each) for each in labels])
            self._admitted_cells[known] = cells
        values = self._metrics.series.values
        for cell in cells:
            values[cell] += 1

    def _count(self, limits: Sequence[Limit], decision: Reservation | Refusal) -> None:
        """Count a decision: once for every limit that admitted the call, or once for the limit that refused it."""
        outcome = "admitted" if isinstance(decision, Reservation) else "refused"
        for limit in limits if isinstance(decision, Reservation) else (decision.limit,):
            mode = limit.outage if decision.degraded else self._mode
            self._metrics.count("lockgate_limit_decisions", (limit.scope, limit.kind, outcome, mode))

    def _of_user(self, call: Call, key: VirtualKey, block: LimitsConfig) -> tuple[Limit, ...]:
        """Return the limits of the call's end user. All calls that name no end user count as one user."""
        user = call.end_user
        limits, cached_for = self._users.get((key.name, user), ((), _NO_LIMITS))
        if cached_for is not block:
            digest = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:32] if user else UNNAMED
            owner = f"user:{key.name}:{digest}"
            limits = limits_in(block, owner, strict=key.strict)
            if len(self._users) >= MAX_CACHED_USERS:
                self._users.clear()
            self._users[key.name, user] = limits, block
        return limits

    def _costs(self, call: Call, targets: Sequence[Target], limits: Sequence[Limit]) -> Costs:
        """Return the amounts to reserve: prompt and maximum output, at the price of the most expensive target."""
        tokens, money = needed_estimates(limits)
        if not tokens:
            return Costs()
        if call.passed is not None:
            return PASSED_COSTS
        assert call.body is not None
        body, default = call.body, self._config.default_output_tokens
        tier = requested_tier(body) if money else ""
        if has_strict_limit(limits):
            prompt, output = max_prompt_tokens(call, targets), max_output_tokens(call, default)
            units = max_search_units(call)
            prices = [self._budget_price(call, target) for target in targets] if money else []
            spend = max((price.max_cost(prompt, output, tier) + price.search_cost(units) for price in prices), default=0)
            return Costs(1, prompt, output, spend)
        copies = [prompt_copies(body, target) for target in targets]
        prompts = [call.prompt.bound(target) for target in targets]
        if len(targets) == 1 and not money:  # the usual case
            return Costs(1, prompts[0] * copies[0], output_cap(body, targets[0], default, call.operation))
        output = max(output_cap(body, target, default, call.operation) for target in targets)
        units = search_units(body, call.operation)
        prices = [self._budget_price(call, target) for target in targets] if money else []
        costs = (
            count * price.cost(prompt, -(-output // count), tier=tier)
            for price, prompt, count in zip(prices, prompts, copies, strict=False)
        )
        spend = max((cost + price.search_cost(units) for cost, price in zip(costs, prices, strict=True)), default=0)
        return Costs(1, max(prompt * count for prompt, count in zip(prompts, copies, strict=True)), output, spend)

    def _budget_price(self, call: Call, target: Target) -> TokenPrice:
        """Return the price at which budgets count a call at a target.

        It is zero for calls with the caller's own credential if the key excludes them from budgets.
        """
        return FREE if target.brought and not _budgets_brought(call) else self._price(target)

    def _price(self, target: Target) -> TokenPrice:
        """Return the price at which calls are charged to a budget. Raise Forbidden if the price is unknown.

        The configuration check rejects budgets for models without a price, but a run-time key may be older than the
        model.
        """
        price = self._prices.get(target.name)
        if price is None:
            price = price_of(self._config.providers[target.provider], target.model)
            if price is not None and len(self._prices) < MAX_CACHED_USERS:
                self._prices[target.name] = price
        if price is None:
            text = f"{target.name} has no known price, so this call cannot be charged to a budget. Ask for another model."
            raise Forbidden(text, code="price_unknown", param="model")
        return price


def remaining_costs(reservation: Reservation, bill: accounting.Bill, spend: int) -> Costs:
    """Return the amounts of a bill that were not charged while the call was running."""
    done = reservation.charged
    if done is NO_COSTS:  # the usual case
        return Costs(1, bill.prompt, bill.output, spend, bill.cached)
    prompt, output = bill.prompt - done.prompt_tokens, bill.output - done.output_tokens
    return Costs(1, prompt, output, spend - done.spend, bill.cached - done.cached_tokens)


async def _count_prompt(call: Call, targets: Sequence[Target], limits: Sequence[Limit]) -> None:
    """Count the prompt if a limit needs the count. Strict limits use a bound derived from the prompt's size instead."""
    if call.passed is None and needed_estimates(limits)[0] and not has_strict_limit(limits):
        await call.prompt.count(targets)


def _budgets_brought(call: Call) -> bool:
    """Return whether budgets count the cost of attempts with the caller's own credentials."""
    return call.key is None or call.key.budgets_brought
