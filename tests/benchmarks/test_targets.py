"""The configurations of the gateway in a benchmark: the features that are on, and the validity of each configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import targets
from benchmarks.apis import CALLS
from benchmarks.bodies import BODY_BYTES, NUMBER, request_body
from benchmarks.processes import CHAT_PATH, Launch
from benchmarks.sections import SECTIONS
from gateway.config.load import load
from gateway.config.types import Config

ENVIRON = {"UPSTREAM_KEY": "upstream-credential"}


def configured(launch: Launch) -> Config:
    """Return the configuration with which a gateway starts."""
    return load(launch.command[launch.command.index("--config") + 1], environ=ENVIRON)


@pytest.fixture
def place(tmp_path: Path) -> targets.Place:
    """A place for a gateway."""
    return targets.Place(tmp_path / "gateway", 9999, lambda: 6379)


def test_everything_is_on(place: targets.Place) -> None:
    config = configured(targets.gateway(targets.FULL, place))
    limits = config.keys["caller"].limits
    assert limits.requests
    assert limits.tokens
    assert config.store == "redis://127.0.0.1:6379/0"
    assert config.journal == str(place.folder / "journal")
    assert config.calls.max_bytes > 0


def test_bare_gateway_has_no_key_journal_or_call_records(place: targets.Place) -> None:
    config = configured(targets.gateway(targets.BARE, place, full=False))
    assert (config.auth, config.journal, config.calls.max_bytes, config.store, config.keys) == ("none", "off", 0, "memory://", {})


def test_several_workers_share_redis(place: targets.Place) -> None:
    launch = targets.gateway(targets.BARE, place, full=False, workers=2)
    assert configured(launch).store.startswith("redis://")
    assert "2" in launch.command


def test_larger_configuration_has_models_keys_and_a_pattern_for_other_names(place: targets.Place) -> None:
    config = configured(targets.gateway("many", place, more=targets.many(50, 2000)))
    assert len(config.keys) == 2001
    assert {"model-49", "*", "bench"} <= set(config.models)


def test_upstream_with_tls_is_verified_with_its_certificate(place: targets.Place, tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text("")
    launch = targets.gateway("TLS", place, more=targets.secure(tmp_path, 8443))
    assert f"ca: {tmp_path}/tls.crt" in Path(launch.command[launch.command.index("--config") + 1]).read_text()


def test_requests_have_a_fixed_size_and_spaces_and_are_all_different() -> None:
    body = request_body(True, "#delay=20000#")
    assert len(body) == BODY_BYTES == len(request_body(False))
    assert NUMBER.encode() in body
    assert b'"role": "system"' in body
    assert b"#delay=20000#" in body[-2048:]


def test_calls_of_other_apis_have_paths_of_their_own() -> None:
    paths = {call.request.path for name, call in CALLS.items() if "Chat" not in name}
    assert CHAT_PATH not in paths
    assert len(paths) >= 9


def test_sections_have_unique_names_and_compared_ones_have_figures() -> None:
    assert len({section.name for section in SECTIONS}) == len(SECTIONS)
    assert [section.name for section in SECTIONS if section.compared and not section.figures] == []
