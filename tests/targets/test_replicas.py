"""Lookups of replicas: changes, the addresses that stay in use after a failure, and those that a reload keeps."""

from __future__ import annotations

from gateway.config import load
from gateway.config.replicas import ReplicasConfig
from gateway.config.types import Config
from gateway.targets.registry import TargetRegistry
from gateway.targets.replicas import Replicas
from providers.base import Target
from tests.flows.live import eventually
from tests.flows.test_replicas_flow import Records
from tests.targets.test_health import target


def config(host: str = "pods", settings: str = "{every: 10ms}") -> Config:
    """Return a configuration whose provider `p` has replicas at this host."""
    text = f"providers: {{p: {{type: vllm, base_url: 'http://{host}:8000/v1', replicas: {settings}}}}}\nmodels: {{m: p/m}}\n"
    return load.parse(text.encode(), "g.yaml", environ={})


def test_the_short_form_is_a_source() -> None:
    assert config(settings="dns").providers["p"].replicas == ReplicasConfig(source="dns", every=5.0)


async def test_changes_are_reported_once_and_a_failed_lookup_keeps_the_last_addresses() -> None:
    records, lines = Records("10.0.0.2", "10.0.0.1"), list[str]()
    replicas = Replicas(records, lines.append, lambda: None)
    replicas.configure(config())
    await replicas.wait_for_first()
    assert replicas.addresses == {"p": ("10.0.0.1:8000", "10.0.0.2:8000")}
    records.addresses = ()
    await eventually(lambda: len(lines) == 2)
    records.addresses = ("10.0.0.2", "10.0.0.1")
    await eventually(lambda: len(lines) == 3)
    await replicas.stop()
    assert lines == [
        "provider p: pods has 2 replicas",
        "provider p: pods cannot be resolved: Name or service not known; the last 2 replicas stay in use",
        "provider p: pods can be resolved again",
    ]
    assert len(replicas.addresses["p"]) == 2


async def test_a_reload_keeps_addresses_of_the_same_host_and_drops_those_of_another() -> None:
    records = Records("10.0.0.1")
    replicas = Replicas(records, lambda line: None, lambda: None)
    replicas.configure(config())
    await replicas.wait_for_first()
    records.addresses = ()
    replicas.configure(config(settings="{every: 1s}"))
    assert replicas.addresses == {"p": ("10.0.0.1:8000",)}
    replicas.configure(config("others"))
    assert replicas.addresses == {}
    await replicas.stop()


def test_the_health_of_a_replica_is_dropped_with_its_last_call() -> None:
    registry = TargetRegistry()
    registry.configure(config().providers)
    kind = target("one").kind
    old, new, plain = [
        registry.health_of(Target(name, "p", kind, "m", "http://pods/v1")) for name in ("p/m@10.0.0.1:8000", "p/m@10.0.0.2:8000", "q/m")
    ]
    old.start_attempt()
    current = {"p": ("10.0.0.2:8000",)}
    assert registry.keep_replicas(current) == []
    assert registry.all() == [old, new, plain]
    old.end_attempt(probe=False)
    assert registry.all() == [new, plain]  # although the addresses have not changed again
    assert registry.keep_replicas(current) == ["p/m@10.0.0.1:8000"]
    assert registry.all() == [new, plain]


def test_a_call_or_another_process_does_not_bring_back_a_replica_that_was_removed() -> None:
    registry = TargetRegistry()
    registry.configure(config().providers)
    kind = target("one").kind
    registry.keep_replicas({"p": ("10.0.0.2:8000",)})
    late = registry.health_of(Target("p/m@10.0.0.1:8000", "p", kind, "m", "http://pods/v1", shared_name="p/m"))
    late.start_attempt()
    assert registry.all() == [late]
    late.end_attempt(probe=False)
    registry.apply_remote("p/m@10.0.0.3:8000", None, 60.0, "failures")
    assert registry.all() == []


def test_the_replicas_are_dropped_if_the_provider_no_longer_has_replicas() -> None:
    registry = TargetRegistry()
    registry.configure(config().providers)
    kind = target("one").kind
    registry.keep_replicas({"p": ("10.0.0.1:8000",)})
    registry.health_of(Target("p/m@10.0.0.1:8000", "p", kind, "m", "http://pods/v1", shared_name="p/m"))
    whole = registry.health_of(Target("p/claude@latest", "p", kind, "claude@latest", "http://pods/v1"))
    assert registry.keep_replicas({}) == ["p/m@10.0.0.1:8000"]
    assert registry.all() == [whole]
