"""Goodfire: two steerable Llama models behind paths of their own.

Sources: Goodfire's API documentation; goodfire 0.3.5 (request body, duplicates in streams, plain-text errors, logits).
The service may no longer exist (the package was archived in October 2025); this module was not tested against it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from providers.answers import choices_of, message_of
from providers.base import Adjustment, Body, Options, Refusal, StreamDecoder, Target, WireRequest
from providers.openai_compatible import OpenAICompatible, Settings, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.messages import ContentParts, RefuseToolTurns, Roles
from providers.rules.names import OutputCap
from providers.rules.rule import Accepts, Rule
from providers.rules.shapes import Choices, ResponseFormat, StreamUsage
from providers.rules.values import Default, DefaultFromSetting, Drop, Refuse, is_number
from providers.streams import ChunkNormalizer

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class GoodfireSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Settings of Goodfire."""

    controller: Annotated[
        dict[str, Any] | None,
        Meta(
            description="Model variant (interventions and scopes on features) for requests without one.",
            examples=[{"name": "my-variant"}],
        ),
    ] = None
    variants: Annotated[
        dict[str, Any] | None,
        Meta(
            description="Model variants by name, for models such as `MODEL@NAME`: a list of features with `uuid`, `label`, "
            "`index_in_sae`, `value` and `mode` (`nudge`, `pin` or `mul`), or a mapping as in `controller`.",
            examples=[{"pirate": [{"uuid": "0123abcd", "label": "pirate speech", "index_in_sae": 7, "value": 0.5}]}],
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuse a variant that cannot be sent."""
        for name, features in (self.variants or {}).items():
            controller_of(name, features)


MODES = ("nudge", "pin", "mul")
_FEATURE_KEYS = frozenset(("uuid", "label", "index_in_sae", "value", "mode", "max_activation_strength"))


def controller_of(name: str, features: Any) -> dict[str, Any]:
    """Return a variant of the configuration as Goodfire's `controller`. Raise ValueError if the variant is invalid."""
    if type(features) is dict:
        if not features:
            raise ValueError(f"variants: '{name}' has no features")
        return {"name": name, **features}
    if type(features) not in (list, tuple) or not features:
        raise ValueError(f"variants: '{name}' must be a list of features, or a mapping as in controller")
    return {"name": name, "interventions": [_intervention(name, feature) for feature in features], "scopes": []}


def _intervention(name: str, feature: Any) -> dict[str, Any]:
    """Return one intervention: the feature, the kind of change of its activation, and the amount."""
    if type(feature) is not dict or not _FEATURE_KEYS.issuperset(feature):
        raise ValueError(f"variants: '{name}' has a feature with unknown keys; allowed are {', '.join(sorted(_FEATURE_KEYS))}")
    uuid, mode = feature.get("uuid"), feature.get("mode", "nudge")
    value: Any = feature.get("value")
    if type(uuid) is not str or not uuid:
        raise ValueError(f"variants: '{name}' has a feature without uuid")
    if not is_number(value):
        raise ValueError(f"variants: '{name}' has a feature whose value is not a number")
    if mode not in MODES:
        raise ValueError(f"variants: '{name}' has a mode other than {', '.join(MODES)}")
    wire = {
        "uuid": uuid.replace("-", ""),
        "label": str(feature.get("label", "")),
        "index_in_sae": feature.get("index_in_sae", 0),
        "max_activation_strength": feature.get("max_activation_strength", 1),
    }
    return {"mode": mode, "features": {"features": [wire]}, "value": float(value)}


class Goodfire(OpenAICompatible):
    """Goodfire, where a model `NAME@VARIANT` is the model NAME with a variant from the settings."""

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        """Apply the rules, and add the variant unless the caller sends a `controller`."""
        _, _, variant = target.model.partition("@")
        adjustments: list[Adjustment] = []
        if variant and body.get("controller") is None:
            problem = self.model_problem(target.model, target.options)
            if problem is not None:
                raise Refusal(f"'model' cannot be sent to Goodfire: {problem}.", "model")
            body.set("controller", controller_of(variant, target.options["variants"][variant]))
            adjustments.append(Adjustment("controller", "set_default", to=variant, why="the variant that the model names"))
        return [*adjustments, *super().adapt(body, target, options)]

    def model_problem(self, model: str, settings: Mapping[str, Any]) -> str | None:
        """Return an error message if the model names a variant that the settings do not have."""
        _, at, variant = model.partition("@")
        variants = settings.get("variants") or {}
        if not at or variant in variants:
            return None
        known = ", ".join(sorted(variants)) or "none"
        return f"the provider's settings have no variant '{variant}'; known variants: {known}"

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        """Return the request, in which the name of the model does not contain the variant."""
        if "@" in target.model:
            target = msgspec.structs.replace(target, model=target.model.partition("@")[0])
        return super().encode(body, target, options)


_CLIENT = "the default of Goodfire's own client; the server's default is unknown"

CHAT: tuple[Rule, ...] = (
    *GATEWAY_RULES,
    *CONTEXT_POLICY,
    Accepts("model messages stream controller"),
    Accepts("temperature top_p stop"),
    Roles(accepts=("system", "user", "assistant")),
    ContentParts(accepts=(), as_string=("system", "user", "assistant")),
    RefuseToolTurns(),
    Refuse("tools", why="tools are not supported"),
    Refuse("functions", why="tools are not supported"),
    Drop("tool_choice", why="tools are not supported", neutral=("none", "auto")),
    Drop("function_call", why="tools are not supported", neutral=("none", "auto")),
    Drop("parallel_tool_calls", why="tools are not supported", neutral=(True, False)),
    ResponseFormat("response_format", ()),
    Choices(param="n"),
    OutputCap("max_completion_tokens"),
    Default("max_completion_tokens", 2048, why=_CLIENT),
    Default("top_p", 0.9, why=_CLIENT),
    Default("temperature", 0.6, why=_CLIENT),
    Default("seed", 42, why=_CLIENT),
    Default("stop", ["<|eot_id|>", "<|begin_of_text|>"], why=_CLIENT),
    Default("stream", False, why=_CLIENT),
    StreamUsage("stream_options", "never"),
    DefaultFromSetting("controller"),
)

LOGITS: tuple[Rule, ...] = (
    *GATEWAY_RULES,
    Accepts("model messages filter_vocabulary controller"),
    Roles(accepts=("system", "user", "assistant")),
    ContentParts(accepts=(), as_string=("system", "user", "assistant")),
    RefuseToolTurns(),
    Default("top_k", 10, why="the default of Goodfire's own client"),
    DefaultFromSetting("controller"),
)


GOODFIRE = Goodfire(
    "goodfire",
    Wire(
        label="Goodfire",
        base_url="https://api.goodfire.ai/api/inference/v1",
        paths={"chat": "/chat/completions", "logits": "/chat-attribution/compute-logits"},
        options=GoodfireSettings,
        decoder=lambda _: GoodfireChunks(),
        source="goodfire 0.3.5 and its chat documentation",
    ),
    CHAT,
    {"logits": LOGITS},
)


class GoodfireChunks(StreamDecoder):
    """Removes repeated tokens (`gf_token_index`) and roles, sets `created`, and adds the missing finish reasons."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._normalizer = ChunkNormalizer()
        self._newest: dict[int, int] = {}
        self._finished: set[int] = set()
        self._frame: dict[str, Any] = {}

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """Return the chunk without repeated tokens, or nothing if no choice is left. An error is returned unchanged."""
        try:
            chunk = _decode(data)
        except msgspec.DecodeError:
            return (data,)  # rejected later
        if chunk.get("error"):
            return (data,)
        given = chunk.get("choices") or []
        choices = [choice for choice in choices_of(chunk) if self._is_new(choice)]
        if type(given) is not list or any(type(choice) is not dict for choice in given):
            return (data,)  # rejected later
        if not choices:
            return ()
        if chunk.get("created") is None:
            chunk["created"] = self._frame.get("created") or int(self._clock())
        self._frame = {key: value for key, value in chunk.items() if key != "choices"}
        return self._normalizer.feed(event, _encode({**chunk, "choices": choices}))

    def _is_new(self, choice: dict[str, Any]) -> bool:
        index, token = choice.get("index", 0), choice.pop("gf_token_index", None)
        if type(token) is int:
            if token <= self._newest.get(index, -1):
                return False
            if index in self._newest:
                message_of(choice).pop("role", None)
            self._newest[index] = token
        if choice.get("finish_reason") is not None:
            self._finished.add(index)
        return True

    def end(self) -> Sequence[bytes]:
        """Finish the choices that have no finish reason. Goodfire may send [DONE] without a finish reason."""
        open_choices = [index for index in self._newest if index not in self._finished]
        finished = [{"index": index, "delta": {}, "finish_reason": "stop"} for index in open_choices]
        return self._normalizer.feed("", _encode({**self._frame, "choices": finished})) if finished else ()
