"""Makes one attempt's conversation fit its target: who does it, provider or gateway, what is counted, what leaves.

Nothing here runs unless the caller sent `context_length_exceeded_behavior` or `prompt_truncate_len`, or the model has `context:`.
Where the provider itself knows the caller's parameter it passes on, and a model's `context:` is said in the provider's words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from gateway import catalog
from gateway.config.model import ContextConfig
from gateway.tokens import truncation as context
from gateway.tokens.counter import SHARED_COUNTER, TokenCounter, Tokenizer, tokenizer_for
from gateway.tokens.truncation import ContextReport, Group, Policy, PromptBudget, WindowLimits
from gateway.upstream.transport import Deadlines, UpstreamError
from providers.base import Adjustment, Body, Options, Refusal, Target

if TYPE_CHECKING:
    from gateway.targets.backend import Backend

BEHAVIOUR = "context_length_exceeded_behavior"
LIMIT = "prompt_truncate_len"
CAPS = ("max_completion_tokens", "max_tokens")
LOADING = 10.0
"""Seconds to wait for a local engine that is loading its model, which then counts."""
SLACK = 256
"""Tokens for what a chat template adds, when bytes alone show that a prompt fits."""
NOTHING = ContextConfig()
MAX_ANSWER = 1 << 20
FEW = 2_000
"""Messages among which the choice of what leaves takes under 5 ms (measured); among more it is made in a thread."""


class Asked(msgspec.Struct, frozen=True):
    """What is left to the gateway, and what was changed in the body to say the rest in the provider's words."""

    limits: WindowLimits
    adjustments: list[Adjustment]
    tokenizer: Tokenizer

    @property
    def idle(self) -> bool:
        """Nothing for the gateway to do."""
        return self.limits.overflow is None and self.limits.prompt is None


class Fitted(msgspec.Struct, frozen=True):
    """What was done to the body, and what the receipt says of it (None when nothing was counted)."""

    adjustments: list[Adjustment]
    report: ContextReport | None = None


class Gone(Exception):
    """The engine cannot count now; the attempt itself will say why."""


class Fit:
    """The stage between routing and adapting."""

    def __init__(self, counter: TokenCounter = SHARED_COUNTER) -> None:
        self._counter = counter
        self._native: dict[str, tuple[str, str]] = {}

    async def preload(self, tokenizers: Iterable[Tokenizer]) -> None:
        """Load what counts will need: half a second each, in which nothing else happens in this process."""
        for tokenizer in tokenizers:
            await self._counter.load(tokenizer)

    def asked(self, body: Body, place: Backend, settings: ContextConfig | None, *, strict: bool = False) -> Asked:
        """Take what the gateway does itself out of the body. Refusal for words that nobody knows."""
        said = settings or NOTHING
        target = place.target
        behaviour, limit = self._support(target, own=said != NOTHING)
        plain = said.policy in (None, "oldest-first") and said.window is None
        made: list[Adjustment] = []
        overflow = _overflow(body, said, behaviour and plain, made)
        prompt, evicts = _prompt_limit(body, said, limit and plain, made)
        window, prompt_window, output = _sizes(place, said)
        if overflow is not None and window is None:
            _unknown_window(overflow, target, made, strict)
            overflow = None
        limits = WindowLimits(overflow, said.policy or "oldest-first", prompt, evicts, window, prompt_window, output)
        return Asked(limits, made, tokenizer_for(target.kind.type, target.model, said.tokenizer))

    async def apply(
        self, body: Body, place: Backend, settings: ContextConfig | None, deadlines: Deadlines, *, strict: bool, report: bool
    ) -> Fitted:
        """Make the body fit. Refusal when it cannot; `report`: count even where bytes alone show that all fits."""
        asked = self.asked(body, place, settings, strict=strict)
        if asked.idle:
            return Fitted(asked.adjustments)
        limits, cap = asked.limits, _cap(body)
        if not report and _surely_fits(body, limits, cap):
            return Fitted([*asked.adjustments, *_lower(body, limits, 0, strict)])
        try:
            counting = await self._counting(body, place, asked.tokenizer, deadlines)
        except Gone:
            return Fitted(asked.adjustments)
        return await _fit(body, asked, counting, cap, strict)

    async def _counting(self, body: Body, place: Backend, tokenizer: Tokenizer, deadlines: Deadlines) -> Counting:
        if place.engine is not None:
            return await engine_counting(body, place, deadlines)
        counted = await self._counter.count(body, tokenizer)

        def after(leaving: Sequence[Group]) -> Step:
            totals = counted.totals(leaving)

            async def step(count: int) -> int:
                return totals[count]

            return step

        return Counting(after, counted.total(), counted.exact, counted.tokenizer, counted.factor)

    def _support(self, target: Target, *, own: bool) -> tuple[bool, bool]:
        """Whether the provider takes the two parameters; where that is unknown they pass, unless the model has settings of its own."""
        found = self._native.get(target.name)
        if found is None:
            known = target.kind.capabilities(target.model)
            found = known.get(BEHAVIOUR, {}).get("support", ""), known.get(LIMIT, {}).get("support", "")
            self._native[target.name] = found
        takes = ("yes",) if own else ("yes", "passed")
        return found[0] in takes, found[1] in takes


Step = Callable[[int], Awaitable[int]]
"""The prompt's tokens once so many groups have left."""


def described(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A target's table of parameters, with what is done here where the provider does not do it."""
    here = {"support": "adjusted", "action": "enforce_locally"}
    return {**parameters, **{name: here for name in (BEHAVIOUR, LIMIT) if parameters.get(name, here).get("support") == "no"}}


class Counting(msgspec.Struct, frozen=True):
    """How the prompt is counted: `after` groups leave in some order, and as it is (`before`)."""

    after: Callable[[Sequence[Group]], Step]
    before: int
    exact: bool
    tokenizer: str
    factor: float = 1.0


async def engine_counting(body: Body, place: Backend, deadlines: Deadlines) -> Counting:
    """The local engine's own count, chat template included. Gone when it does not answer."""
    settled = getattr(place.engine, "settled", None)
    if settled is not None:
        await settled(LOADING)
    messages = body.get("messages")
    target = place.target

    async def total(leaving: Sequence[Group], count: int) -> int:
        twin, options = body.copy(), Options()
        if count:
            twin.set("messages", _without(messages, context.evicted_messages(leaving, count)))
        target.kind.adapt(twin, target, options)
        request = target.kind.encode(twin, target, options)
        request.path += "/input_tokens"
        try:
            response = await place.transport.send(place.origin, request, deadlines)
            try:
                answer = await response.body(MAX_ANSWER)
            finally:
                response.close()
            if response.status != 200:
                raise Gone
            return int(msgspec.json.decode(answer)["input_tokens"])
        except (UpstreamError, msgspec.DecodeError, KeyError, TypeError) as error:
            raise Gone from error

    return Counting(lambda leaving: partial(total, leaving), await total((), 0), exact=True, tokenizer="engine")


async def _fit(body: Body, asked: Asked, counting: Counting, cap: int | None, strict: bool) -> Fitted:
    limits, before = asked.limits, counting.before
    if limits.overflow == "error" and context.overflows(limits, cap, sure := int(before / counting.factor)):
        raise _too_long(limits, sure, cap)
    if limits.prompt is not None and not limits.evicts and before > limits.prompt:
        raise _too_long(limits, before, None)
    made = list(asked.adjustments)
    evicted: tuple[int, ...] = ()
    after = before
    wanted = context.prompt_budget(limits, cap)
    if wanted is not None and before > wanted.threshold:
        messages = body.get("messages")
        evicted, after = await _evict(messages, limits.policy, wanted, counting)
        if after > wanted.limit:
            raise _too_long(limits, after, None, of=before)
        why = f"{before} tokens of prompt are {after} without them"
        if evicted:
            if strict:
                raise Refusal(f"The conversation would have to lose {len(evicted)} messages: {why}.", "messages", "context_length_exceeded")
            made.append(Adjustment("messages", "truncate", len(messages), len(messages) - len(evicted), why))
            body.set("messages", _without(messages, evicted))
    made += _lower(body, limits, after, strict)
    report = ContextReport(
        "exact" if counting.exact else "estimated", counting.tokenizer, after, limits.window, evicted, before=before, after=after
    )
    return Fitted(made, report)


async def _evict(messages: list[Any], policy: Policy, wanted: PromptBudget, counting: Counting) -> tuple[tuple[int, ...], int]:
    """The places that leave, and the prompt's tokens without them."""

    def prepare() -> tuple[list[Group], Step]:
        leaving = context.eviction_order(context.evictable_groups(messages), policy)
        return leaving, counting.after(leaving)

    leaving, total = prepare() if len(messages) <= FEW else await asyncio.to_thread(prepare)
    steps = context.fewest_groups(len(leaving), wanted)
    counts = {0: counting.before}
    try:
        asked = next(steps)
        while True:
            counts[asked] = await total(asked)
            asked = steps.send(counts[asked])
    except StopIteration as found:
        count: int = len(leaving) if found.value is None else found.value
    return context.evicted_messages(leaving, count), counts[count]


def _overflow(body: Body, said: ContextConfig, native: bool, made: list[Adjustment]) -> Any:
    """What the gateway does on overflow; the caller's word counts before the model's."""
    value = body.get(BEHAVIOUR)
    if native:
        if value is None and said.overflow is not None:
            body.set(BEHAVIOUR, said.overflow)
            made.append(Adjustment(BEHAVIOUR, "set_default", to=said.overflow, why="the model's context settings"))
        return None
    if value is None:
        return said.overflow
    if value not in ("truncate", "error"):
        raise Refusal(f"'{BEHAVIOUR}' takes truncate or error.", BEHAVIOUR)
    body.pop(BEHAVIOUR)
    made.append(Adjustment(BEHAVIOUR, "enforce_locally", why="the gateway fits the conversation"))
    return value


def _prompt_limit(body: Body, said: ContextConfig, native: bool, made: list[Adjustment]) -> tuple[int | None, bool]:
    """The longest prompt that the gateway lets through, and whether more of it leaves rather than being refused."""
    value: int | None = body.get(LIMIT)
    most = said.max_prompt_tokens
    refuses = most is not None and said.overflow == "error"
    smaller = min((one for one in (value, most) if one is not None), default=None)
    if native and not refuses:
        if smaller is not None and smaller != value:
            body.set(LIMIT, smaller)
            made.append(Adjustment(LIMIT, "set_default" if value is None else "clamp", value, smaller, "the model's context settings"))
        return None, True
    if value is not None:
        body.pop(LIMIT)
        made.append(Adjustment(LIMIT, "enforce_locally", why="the gateway evicts messages"))
        if not refuses or most is None or value < most:
            return smaller, True
    return smaller, not refuses


def _sizes(place: Backend, said: ContextConfig) -> tuple[int | None, int | None, int | None]:
    """The window, the longest prompt and the longest answer: the YAML's, the engine's, the catalog's."""
    target = place.target
    entry = None if place.engine is not None else catalog.find(target.kind.type, target.model, target.provider)
    window = said.window or (place.engine.options.context if place.engine is not None else entry.context if entry else None)
    prompt = entry.input if entry is not None and said.window is None else None
    return window, prompt, said.output or (entry.output if entry is not None else None)


def _unknown_window(overflow: str, target: Target, made: list[Adjustment], strict: bool) -> None:
    """Without a window nothing can be fitted: the provider refuses by itself, which is all that `error` asks for."""
    asked = [one for one in made if one.param == BEHAVIOUR]
    for one in asked:
        made.remove(one)
    why = f"the context window of {target.name} is not known: set context.window on the model"
    if overflow == "truncate":
        if strict:
            raise Refusal(f"'{BEHAVIOUR}' cannot be honoured: {why}.", BEHAVIOUR, "unsupported_parameter")
        made.append(Adjustment(BEHAVIOUR, "drop" if asked else "warn", why=why))
    elif asked:
        made.append(Adjustment(BEHAVIOUR, "drop", why="neutral value"))


def _cap(body: Body) -> int | None:
    """The output that the caller asked for: the smaller of its two names."""
    return min((value for name in CAPS if (value := body.get(name)) is not None), default=None)


def _lower(body: Body, limits: WindowLimits, prompt: int, strict: bool) -> list[Adjustment]:
    """Lower the output caps to what fits beside the prompt."""
    made = []
    for name in CAPS:
        value = body.get(name)
        bound = context.lowered_cap(limits, value, prompt)
        if bound is None:
            continue
        why = f"the answer may have {bound} tokens: the window has {limits.window}, the prompt {prompt}"
        if prompt == 0 or bound == limits.output:
            why = f"the model answers with at most {bound} tokens"
        if strict:
            raise Refusal(f"'{name}' cannot be honoured: {why}.", name, "context_length_exceeded")
        made.append(Adjustment(name, "clamp", value, bound, why))
        body.set(name, bound)
    return made


def _surely_fits(body: Body, limits: WindowLimits, cap: int | None) -> bool:
    """Whether bytes alone show that nothing need be done: a token of text is at least a byte. An image's address is not."""
    source = body.raw("messages") or b""
    if b'"type"' in source or b"\\u00" in source:
        return False
    size = len(source) + SLACK + sum(len(body.raw(name) or b"") for name in ("tools", "functions", "response_format", "system_prompt"))
    if limits.overflow is not None and context.overflows(limits, max(cap or 1, context.MIN_OUTPUT_TOKENS), size):
        return False
    return limits.prompt is None or size <= limits.prompt


def _too_long(limits: WindowLimits, prompt: int, cap: int | None, *, of: int | None = None) -> Refusal:
    """The 400, in OpenAI's words with the numbers. `of`: the whole prompt, of which `prompt` cannot be left out."""
    reduce = "Please reduce the length of the messages"
    resulted = f"your messages resulted in {prompt} tokens"
    if of is not None and of > prompt:
        resulted = f"your messages resulted in {of} tokens, {prompt} of which cannot be left out"
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


def _without(messages: list[Any], places: tuple[int, ...]) -> list[Any]:
    left = frozenset(places)
    return [message for at, message in enumerate(messages) if at not in left]
