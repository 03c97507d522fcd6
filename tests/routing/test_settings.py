"""The settings at the end of a route come from the models on it: for each key, the first model that sets it decides."""

from __future__ import annotations

import msgspec

from gateway.config.limit import HedgeDelay
from gateway.config.model import ContextConfig, HedgeConfig, MirrorConfig, ModelConfig, ModelSettings
from gateway.config.route import Ref
from gateway.routing.router import Router
from gateway.routing.settings import merge_deadlines, merge_settings
from gateway.targets.candidate import Candidate, Model
from gateway.upstream.transport import Deadlines
from tests.routing.test_router import backend_of
from tests.support.each import each

VALUES = {"hedge": HedgeConfig(HedgeDelay(seconds=1.0)), "mirror": MirrorConfig(Ref("a", "shadow"))}
"""Settings whose value must have the right type here. For every other setting, any object is sufficient."""


def candidate(outer: ModelConfig, inner: ModelConfig) -> Candidate:
    """Return the candidate behind a model that leads to another model."""
    models = {one.name: Model(one.name, one.targets, one) for one in (outer, inner)}
    router = Router(models, backend_of)
    (found,) = router.candidates(router.find(outer.name))
    return found


@each("name", ModelSettings.__struct_fields__)
def test_every_setting_reaches_the_candidate(name: str) -> None:
    """A new setting is a new field of ModelSettings: nothing in gateway.routing names it."""
    value = VALUES.get(name, object())
    outer = ModelConfig(name="outer", targets=Ref(None, "inner"))
    inner = ModelConfig(name="inner", targets=Ref("a", "x"), **{name: value})
    assert getattr(candidate(outer, inner).settings, name) is value


@each("name", sorted({*ModelSettings.__struct_fields__} - {"strict", "context"}))
def test_the_setting_nearest_to_the_caller_wins(name: str) -> None:
    near, far = VALUES.get(name, object()), VALUES.get(name, object())
    outer = ModelConfig(name="outer", targets=Ref(None, "inner"), **{name: near})
    inner = ModelConfig(name="inner", targets=Ref("a", "x"), **{name: far})
    assert getattr(candidate(outer, inner).settings, name) is near


@each(
    ("near", "far", "merged"),
    [(False, True, True), (True, False, True), (None, True, True), (False, None, False), (None, None, None)],
)
def test_a_strict_model_stays_strict_behind_another_model(near: bool | None, far: bool | None, merged: bool | None) -> None:
    assert merge_settings([ModelSettings(strict=near), ModelSettings(strict=far)]).strict is merged


def test_context_is_merged_key_by_key() -> None:
    near, far = ContextConfig(overflow="error"), ContextConfig(overflow="truncate", policy="middle-out")
    merged = merge_settings([ModelSettings(context=near), ModelSettings(), ModelSettings(context=far)])
    assert merged.context == ContextConfig(overflow="error", policy="middle-out")


def test_an_empty_context_counts_as_unset() -> None:
    assert merge_settings([ModelSettings(context=ContextConfig())]).context is None


def test_a_hedge_is_not_merged_and_belongs_to_the_model_that_sets_it() -> None:
    hedge = HedgeConfig(HedgeDelay(seconds=1.0), budget=0.01)
    outer = ModelConfig(name="outer", targets=Ref(None, "inner"))
    inner = ModelConfig(name="inner", targets=Ref("a", "x"), hedge=hedge)
    found = candidate(outer, inner)
    assert (found.settings.hedge, found.hedge_model) == (hedge, "inner")
    found = candidate(msgspec.structs.replace(outer, hedge=HedgeConfig(HedgeDelay(seconds=2.0))), inner)
    assert (found.settings.hedge, found.hedge_model) == (HedgeConfig(HedgeDelay(seconds=2.0)), "outer")


def test_timeouts_replace_those_of_the_provider() -> None:
    provider = Deadlines(connect=1.0, tls=2.0, first_byte=3.0, idle=4.0, total=5.0)
    settings = ModelSettings(timeout=50.0, first_byte_timeout=30.0)
    assert merge_deadlines(settings, provider) == Deadlines(connect=1.0, tls=2.0, first_byte=30.0, idle=4.0, total=50.0)
