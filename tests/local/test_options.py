"""providers.local.options, admission and cpu: settings, the bounded queue, and the processor's features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from providers.local.admission import Gate
from providers.local.cpu import missing_feature, usable_cores
from providers.local.options import LocalOptions
from tests.support.each import each


@each(
    ("settings", "named"),
    [
        ({"slots": 0}, "slots"), ({"slots": 65}, "slots"), ({"threads": 0}, "threads"), ({"context": 10}, "context"),
        ({"queue": -1}, "queue"), ({"memory": 0}, "memory"), ({"slot": 1}, "slot"), ({"model": 7}, "model"),
        ({"bundled": "other"}, "bundled"), ({"bundled": "all-minilm-l6-v2", "model": "/x.gguf"}, "bundled"),
    ],
)  # fmt: skip
def test_invalid_settings_are_refused_with_their_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert(settings, LocalOptions)


def test_defaults_leave_a_core_to_the_gateway_and_cap_memory_by_the_model() -> None:
    options = LocalOptions()
    assert options.cores >= 1
    assert LocalOptions(threads=7).cores == 7
    assert options.memory_cap(100 << 20) == (200 << 20) + (3 << 29)
    assert LocalOptions(memory=1 << 30).memory_cap(100 << 20) == 1 << 30


def test_context_is_limited_to_the_embedding_model() -> None:
    assert LocalOptions(bundled="all-minilm-l6-v2").context == 512
    assert LocalOptions(bundled="all-minilm-l6-v2", context=256).context == 256
    assert LocalOptions(context=4096).context == 4096


def test_gate_admits_slots_plus_queue() -> None:
    gate = Gate(slots=2, queue=1)
    leases = [gate.acquire() for _ in range(3)]
    assert None not in leases
    assert gate.acquire() is None
    assert (gate.running, gate.waiting) == (2, 1)
    first = leases[0]
    assert first is not None
    first.release()
    first.release()
    assert gate.used == 2
    assert gate.acquire() is not None


def test_retry_after_grows_with_how_long_calls_take() -> None:
    now = 0.0
    gate = Gate(slots=1, queue=0, clock=lambda: now)
    quick = gate.retry_after()
    for _ in range(20):
        lease = gate.acquire()
        assert lease is not None
        now += 20.0
        lease.release()
    assert quick == 1.0
    assert 15 <= gate.retry_after() <= 20


@pytest.mark.parametrize(
    ("machine", "flags", "missing"),
    [("x86_64", "sse4_2 avx avx2 bmi2", None), ("x86_64", "sse4_2 avx avx512f", "AVX2"), ("aarch64", "asimd", None)],
)
def test_missing_feature_reports_a_processor_without_avx2(tmp_path: Path, machine: str, flags: str, missing: str | None) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: any\nflags\t\t: fpu {flags}\n")
    assert missing_feature(cpuinfo, machine) == missing


def test_unknown_processor_counts_as_supported(tmp_path: Path) -> None:
    assert missing_feature(tmp_path / "none", "x86_64") is None


@pytest.mark.parametrize(
    ("quota", "most"), [("100000 100000", 1), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 4096), ("junk", 4096)]
)
def test_quota_of_a_container_bounds_the_cores(tmp_path: Path, quota: str, most: int) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    free = usable_cores(tmp_path / "none")
    assert usable_cores(tmp_path / "cpu.max") == min(free, most)
