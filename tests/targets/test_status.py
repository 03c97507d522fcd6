"""Target health as shown to operators: every target of the configuration, and several workers merged."""

from __future__ import annotations

from pathlib import Path

import providers
from gateway.config import load
from gateway.targets.registry import TargetRegistry
from gateway.targets.status import CredentialView, TargetView, known_views, merge_views, read_views, target_refs, target_views, write_views
from providers.base import Failure, Target

CONFIG = load.parse(
    b"providers: {p: {type: vllm, base_url: 'http://x/v1'}}\nmodels: {a: [p/m, p/n], b: {p/m: 1, p/o: 1}, c: a}\n", "g.yaml", environ={}
)


def target(credential: str = "one") -> Target:
    """Return the target p/m."""
    return Target("p/m", "p", providers.get("vllm"), "m", "http://x/v1", credential)


def test_each_target_of_the_configuration_is_listed_once() -> None:
    assert target_refs(CONFIG) == [("p", "m"), ("p", "n"), ("p", "o")]


def test_targets_without_calls_are_live_and_cooldowns_show_reason_and_end() -> None:
    registry = TargetRegistry()
    registry.configure(CONFIG.providers)
    registry.health_of(target()).record_failure(target(), Failure("quota", "", 402))
    first, *others = target_views(registry, CONFIG)
    assert (first.target, first.state, first.reason, first.last_failure) == ("p/m", "cooling", "quota", "quota")
    assert first.cooling_seconds is not None
    assert 290 < first.cooling_seconds <= 300
    assert first.cooling_until is not None
    assert others == [TargetView("p/n"), TargetView("p/o")]


def test_a_worker_publishes_only_the_targets_that_were_called() -> None:
    registry = TargetRegistry()
    registry.configure(CONFIG.providers)
    assert known_views(registry) == []
    registry.health_of(target())
    assert [view.target for view in known_views(registry)] == ["p/m"]


def test_several_credentials_are_shown_by_index() -> None:
    registry = TargetRegistry()
    registry.configure(CONFIG.providers)
    health, keys = registry.health_of(target()), [target("one"), target("two")]
    health.pick_credential(keys)
    health.record_failure(keys[1], Failure("auth", "", 401))
    (first, *_) = target_views(registry, CONFIG)
    assert first.state == "live"
    assert [(each.index, each.state, each.reason) for each in first.credentials] == [(0, "live", None), (1, "cooling", "auth")]


def test_workers_are_merged_by_adding_counts_and_taking_the_worst_state() -> None:
    one = [
        TargetView("p/m", in_flight=2, waiting=1, shed=3, latency_ms=100.0, failures_in_a_row=1, waiting_by_key={"a": 1}),
        TargetView("p/n"),
    ]
    other = [
        TargetView(
            "p/m", "cooling", "failures", "later", 30.0, 5, "timeout", 1, 0, 1, 300.0, [CredentialView(0)]
        )
    ]
    merged, unchanged = merge_views([one, other])
    assert merged == TargetView("p/m", "cooling", "failures", "later", 30.0, 5, "timeout", 3, 1, 4, 200.0, [CredentialView(0)], {"a": 1})
    assert unchanged == TargetView("p/n")


def test_the_waiting_calls_of_a_key_are_added_up_over_workers() -> None:
    one, other = TargetView("p/m", waiting_by_key={"a": 1, "b": 2}), TargetView("p/m", waiting_by_key={"b": 3})
    assert merge_views([[one], [other]])[0].waiting_by_key == {"a": 1, "b": 5}


def test_views_are_read_as_they_were_written_and_a_missing_file_is_empty(tmp_path: Path) -> None:
    views = [TargetView("p/m", in_flight=2)]
    assert read_views(tmp_path / "targets") == []
    write_views(tmp_path / "targets", views)
    assert read_views(tmp_path / "targets") == views
