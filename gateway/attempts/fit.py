"""Fits the conversation of one attempt into its target's context window: the provider does this if it can; otherwise the gateway does.

This happens only if the caller sent `context_length_exceeded_behavior` or `prompt_truncate_len`, or if the model has `context:`.
A parameter that the provider supports is passed on, and a model's `context:` is translated into such parameters where possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from gateway import catalog
from gateway.config.model import ContextConfig
from gateway.tokens import truncation
from gateway.tokens.counter import SHARED_COUNTER, TokenCounter
from gateway.tokens.tokenizer import Tokenizer, tokenizer_for
from gateway.tokens.truncation import ContextReport, Group, Policy, PromptBudget, WindowLimits
from gateway.upstream.transport import Deadlines, UpstreamError
from providers.base import Action, Adjustment, Body, Options, Refusal, Target
from providers.media.table import media_rules
from providers.rules.places import remove_messages

if TYPE_CHECKING:
    from gateway.targets.backend import Backend

OVERFLOW_PARAM = "context_length_exceeded_behavior"
PROMPT_LIMIT_PARAM = "prompt_truncate_len"
OUTPUT_CAP_PARAMS = ("max_completion_tokens", "max_tokens")
MAX_ENGINE_WAIT_S = 10.0
"""Maximum time to wait until a local engine has loaded its model and can count tokens."""
TEMPLATE_TOKENS = 256
"""Allowance for the tokens of a chat template in the check by size alone (`_surely_fits`)."""
NO_SETTINGS = ContextConfig()
MAX_COUNT_ANSWER_BYTES = 1 << 20
MAX_INLINE_MESSAGES = 2_000  # above this number, a thread prepares the eviction; up to it, the event loop needs at most 5 ms (measured)


class FitRequest(msgspec.Struct, frozen=True):
    """The limits that the gateway itself enforces for one body, the adjustments made for it, and the tokenizer."""

    limits: WindowLimits
    adjustments: list[Adjustment]
    tokenizer: Tokenizer

    @property
    def idle(self) -> bool:
        """Whether the gateway has nothing to do."""
        return self.limits.overflow is None and self.limits.prompt is None


class Fitted(msgspec.Struct, frozen=True):
    """The adjustments of a body, and the report for the receipt (None if nothing was counted)."""

    adjustments: list[Adjustment]
    report: ContextReport | None = None


class EngineCountError(Exception):
    """The engine cannot count tokens now. An attempt at this engine will fail as well and report the reason."""


class Fit:
    """Fits conversations into context windows."""

    def __init__(self, counter: TokenCounter = SHARED_COUNTER) -> None:
        self._counter = counter
        self.engines_run = True  # False in a dry run without engines: tokens are estimated
        self._native: dict[str, tuple[str, str]] = {}

    def asked(self, body: Body, place: Backend, settings: ContextConfig | None, *, strict: bool = False) -> FitRequest:
        """Move the parameters that the gateway handles from the body to a FitRequest, and return it. Raise Refusal for an invalid value."""
        said = settings or NO_SETTINGS
        target = place.target
        behaviour, limit = self._support(target, own=said != NO_SETTINGS)
        plain = said.policy in (None, "oldest-first") and said.window is None
        made: list[Adjustment] = []
        overflow = _overflow(body, said, behaviour and plain, made)
        prompt, evicts = _prompt_limit(body, said, limit and plain, made)
        window, prompt_window, output = window_sizes(place, said)
        if overflow is not None and window is None:
            _unknown_window(overflow, target, made, strict)
            overflow = None
        limits = WindowLimits(overflow, said.policy or "oldest-first", prompt, evicts, window, prompt_window, output)
        return FitRequest(limits, made, tokenizer_for(target.kind.type, target.model, said.tokenizer))

    async def apply(
        self, body: Body, place: Backend, settings: ContextConfig | None, deadlines: Deadlines, *, strict: bool, report: bool
    ) -> Fitted:
        """Make the body fit, or raise Refusal. With `report`, count tokens even if the size alone shows that the body fits."""
        asked = self.asked(body, place, settings, strict=strict)
        if asked.idle:
            return Fitted(asked.adjustments)
        limits, cap = asked.limits, _cap(body)
        if not report and _surely_fits(body, limits, cap):
            return Fitted([*asked.adjustments, *_lower(body, limits, 0, strict)])
        try:
            counting = await self._counting(body, place, asked.tokenizer, deadlines)
        except EngineCountError:
            return Fitted(asked.adjustments)
        return await _fit(body, asked, counting, cap, strict)

    async def _counting(self, body: Body, place: Backend, tokenizer: Tokenizer, deadlines: Deadlines) -> Counting:
        if place.engine is not None and self.engines_run:
            return await engine_counting(body, place, deadlines)
        counted = await self._counter.count(body, tokenizer, media_rules(place.target.kind.type, place.target.model))

        def after(leaving: Sequence[Group]) -> Step:
            totals = counted.totals(leaving)

            async def step(count: int) -> int:
                return totals[count]

            return step

        return Counting(after, counted.total(), counted.exact, counted.tokenizer, counted.factor)

    def _support(self, target: Target, *, own: bool) -> tuple[bool, bool]:
        """Return whether the provider handles each of the two parameters.

        With `own` (the model has settings), support of the kind "passed" does not count.
        """
        found = self._native.get(target.name)
        if found is None:
            known = target.kind.capabilities(target.model)
            found = known.get(OVERFLOW_PARAM, {}).get("support", ""), known.get(PROMPT_LIMIT_PARAM, {}).get("support", "")
            self._native[target.name] = found
        takes = ("yes",) if own else ("yes", "passed")
        return found[0] in takes, found[1] in takes


Step = Callable[[int], Awaitable[int]]
"""Returns the prompt's tokens after the given number of groups has been evicted."""


def described(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a target's table of parameters, including those that the gateway enforces itself."""
    here = {"support": "adjusted", "action": "enforce_locally"}
    params = (OVERFLOW_PARAM, PROMPT_LIMIT_PARAM)
    return {**parameters, **{name: here for name in params if parameters.get(name, here).get("support") == "no"}}


class Counting(msgspec.Struct, frozen=True):
    """The prompt's tokens without eviction (`before`), and a way to count them after groups are evicted in a given order (`after`)."""

    after: Callable[[Sequence[Group]], Step]
    before: int
    exact: bool
    tokenizer: str
    factor: float = 1.0


async def engine_counting(body: Body, place: Backend, deadlines: Deadlines) -> Counting:
    """Count the tokens of the prompt and its chat template with the local engine.

    Raise EngineCountError if the engine does not answer with a count.
    """
    settled = getattr(place.engine, "settled", None)
    if settled is not None:
        await settled(MAX_ENGINE_WAIT_S)
    target = place.target

    async def total(leaving: Sequence[Group], count: int) -> int:
        twin, options = body.copy(), Options()
        if count:
            remove_messages(twin, truncation.evicted_messages(leaving, count))
        target.kind.adapt(twin, target, options)
        request = target.kind.encode(twin, target, options)
        request.path += "/input_tokens"
        try:
            response = await place.transport.send(place.origin, request, deadlines)
            try:
                answer = await response.body(MAX_COUNT_ANSWER_BYTES)
            finally:
                response.close()
            if response.status != 200:
                raise EngineCountError
            return int(msgspec.json.decode(answer)["input_tokens"])
        except (UpstreamError, msgspec.DecodeError, KeyError, TypeError) as error:
            raise EngineCountError from error

    return Counting(lambda leaving: partial(total, leaving), await total((), 0), exact=True, tokenizer="engine")


async def _fit(body: Body, asked: FitRequest, counting: Counting, cap: int | None, strict: bool) -> Fitted:
    limits, before = asked.limits, counting.before
    if limits.overflow == "error" and truncation.overflows(limits, cap, sure := int(before / counting.factor)):
        raise _too_long(limits, sure, cap)
    if limits.prompt is not None and not limits.evicts and before > limits.prompt:
        raise _too_long(limits, before, None)
    made = list(asked.adjustments)
    evicted: tuple[int, ...] = ()
    after = before
    wanted = truncation.prompt_budget(limits, cap)
    if wanted is not None and before > wanted.threshold:
        messages = body.get("messages")
        evicted, after = await _evict(messages, limits.policy, wanted, counting)
        if after > wanted.limit:
            raise _too_long(limits, after, None, of=before)
        why = f"evicting them reduces the prompt from {before} to {after} tokens"
        if evicted:
            if strict:
                message = f"Messages would have to be evicted ({len(evicted)}): {why}."
                raise Refusal(message, "messages", "context_length_exceeded")
            made.append(Adjustment("messages", "truncate", len(messages), len(messages) - len(evicted), why))
            remove_messages(body, evicted)
    made += _lower(body, limits, after, strict)
    report = ContextReport(
        "exact" if counting.exact else "estimated", counting.tokenizer, after, limits.window, evicted, before=before, after=after
    )
    return Fitted(made, report)


async def _evict(messages: list[Any], policy: Policy, wanted: PromptBudget, counting: Counting) -> tuple[tuple[int, ...], int]:
    """Return the indexes of the evicted messages, and the prompt's tokens without them."""

    def prepare() -> tuple[list[Group], Step]:
        leaving = truncation.eviction_order(truncation.evictable_groups(messages), policy)
        return leaving, counting.after(leaving)

    leaving, total = prepare() if len(messages) <= MAX_INLINE_MESSAGES else await asyncio.to_thread(prepare)
    steps = truncation.fewest_groups(len(leaving), wanted)
    counts = {0: counting.before}
    try:
        asked = next(steps)
        while True:
            counts[asked] = await total(asked)
            asked = steps.send(counts[asked])
    except StopIteration as found:
        count: int = len(leaving) if found.value is None else found.value
    return truncation.evicted_messages(leaving, count), counts[count]


def _overflow(body: Body, said: ContextConfig, native: bool, made: list[Adjustment]) -> Any:
    """Return the gateway's action on overflow. The caller's parameter takes precedence over the model's setting."""
    value = body.get(OVERFLOW_PARAM)
    if native:
        if value is None and said.overflow is not None:
            body.set(OVERFLOW_PARAM, said.overflow)
            made.append(Adjustment(OVERFLOW_PARAM, "set_default", to=said.overflow, why="the model's context settings"))
        return None
    if value is None:
        return said.overflow
    if value not in ("truncate", "error"):
        raise Refusal(f"'{OVERFLOW_PARAM}' must be 'truncate' or 'error'.", OVERFLOW_PARAM)
    body.pop(OVERFLOW_PARAM)
    made.append(Adjustment(OVERFLOW_PARAM, "enforce_locally", why="the gateway fits the conversation"))
    return value


def _prompt_limit(body: Body, said: ContextConfig, native: bool, made: list[Adjustment]) -> tuple[int | None, bool]:
    """Return the prompt limit that the gateway enforces, and whether it evicts messages instead of refusing the call."""
    value: int | None = body.get(PROMPT_LIMIT_PARAM)
    most = said.max_prompt_tokens
    refuses = most is not None and said.overflow == "error"
    smaller = min((one for one in (value, most) if one is not None), default=None)
    if native and not refuses:
        if smaller is not None and smaller != value:
            body.set(PROMPT_LIMIT_PARAM, smaller)
            action: Action = "set_default" if value is None else "clamp"
            made.append(Adjustment(PROMPT_LIMIT_PARAM, action, value, smaller, "the model's context settings"))
        return None, True
    if value is not None:
        body.pop(PROMPT_LIMIT_PARAM)
        made.append(Adjustment(PROMPT_LIMIT_PARAM, "enforce_locally", why="the gateway evicts messages"))
        if not refuses or most is None or value < most:
            return smaller, True
    return smaller, not refuses


def window_sizes(place: Backend, said: ContextConfig) -> tuple[int | None, int | None, int | None]:
    """Return the context window, the prompt limit and the output limit: as configured, else from the engine, else from the catalog."""
    target = place.target
    entry = None if place.engine is not None else catalog.entry_of(target)
    window = said.window or (place.engine.options.context if place.engine is not None else entry.context if entry else None)
    prompt = entry.input if entry is not None and said.window is None else None
    return window, prompt, said.output or (entry.output if entry is not None else None)


def _unknown_window(overflow: str, target: Target, made: list[Adjustment], strict: bool) -> None:
    """Adjust for an unknown window: fitting is impossible, and the provider refuses a prompt that is too long."""
    asked = [one for one in made if one.param == OVERFLOW_PARAM]
    for one in asked:
        made.remove(one)
    why = f"the context window of {target.name} is unknown: set context.window on the model"
    if overflow == "truncate":
        if strict:
            raise Refusal(f"'{OVERFLOW_PARAM}' cannot be honoured: {why}.", OVERFLOW_PARAM, "unsupported_parameter")
        made.append(Adjustment(OVERFLOW_PARAM, "drop" if asked else "warn", why=why))
    elif asked:
        made.append(Adjustment(OVERFLOW_PARAM, "drop", why="neutral value"))


def _cap(body: Body) -> int | None:
    """Return the output cap that the caller set: the smaller one if both parameters are set."""
    return min((value for name in OUTPUT_CAP_PARAMS if (value := body.get(name)) is not None), default=None)


def _lower(body: Body, limits: WindowLimits, prompt: int, strict: bool) -> list[Adjustment]:
    """Lower the output caps to the space that the prompt leaves, and return the adjustments. In strict mode, raise Refusal instead."""
    made = []
    for name in OUTPUT_CAP_PARAMS:
        value = body.get(name)
        bound = truncation.lowered_cap(limits, value, prompt)
        if bound is None:
            continue
        why = f"the answer is limited to {bound} tokens: the window has {limits.window} tokens, the prompt {prompt}"
        if prompt == 0 or bound == limits.output:
            why = f"the model answers with at most {bound} tokens"
        if strict:
            raise Refusal(f"'{name}' cannot be honoured: {why}.", name, "context_length_exceeded")
        made.append(Adjustment(name, "clamp", value, bound, why))
        body.set(name, bound)
    return made


def _surely_fits(body: Body, limits: WindowLimits, cap: int | None) -> bool:
    """Return whether the size alone shows that a prompt of plain text fits: each of its tokens has at least one byte."""
    source = body.raw("messages") or b""
    if b'"type"' in source or b"\\u00" in source:
        return False
    others = ("tools", "functions", "response_format", "system_prompt")
    size = len(source) + TEMPLATE_TOKENS + sum(len(body.raw(name) or b"") for name in others)
    if limits.overflow is not None and truncation.overflows(limits, max(cap or 1, truncation.MIN_OUTPUT_TOKENS), size):
        return False
    return limits.prompt is None or size <= limits.prompt


def _too_long(limits: WindowLimits, prompt: int, cap: int | None, *, of: int | None = None) -> Refusal:
    """Return the error 400 in OpenAI's wording. `of` is the whole prompt if `prompt` is the part that cannot be evicted."""
    reduce = "Please reduce the length of the messages"
    resulted = f"your messages resulted in {prompt} tokens"
    if of is not None and of > prompt:
        resulted = f"your messages resulted in {of} tokens, {prompt} of which cannot be evicted"
    if limits.prompt is not None and prompt > limits.prompt:
        text = f"This model's maximum prompt length is {limits.prompt} tokens. However, {resulted}. {reduce}."
    elif limits.window is not None and cap is not None and prompt < limits.window:
        text = (
            f"This model's maximum context length is {limits.window} tokens. However, you requested {prompt + cap} tokens "
            f"({prompt} in the messages, {cap} in the completion). {reduce} or completion."
        )
    else:
        most = limits.prompt_window if limits.prompt_window is not None and prompt > limits.prompt_window else limits.window
        text = f"This model's maximum context length is {most} tokens. However, {resulted}. {reduce}."
    return Refusal(text, "messages", "context_length_exceeded")
