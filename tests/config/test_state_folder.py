"""The folder that keeps journals and run-time keys: its path, which differs for each configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import BUILT_IN, load, parse
from gateway.config.state_folder import state_folder


def test_each_configuration_has_its_own_folder(tmp_path: Path) -> None:
    text = b"providers: { local: {} }\nmodels: { m: local/any }\n"
    one, other = parse(text, str(tmp_path / "a" / "gateway.yaml")), parse(text, str(tmp_path / "b" / "gateway.yaml"))
    folders = {state_folder(config, {"LOCKGATE_STATE": "/var/lib/lockgate"}) for config in (one, other, one)}
    assert len(folders) == 2
    assert {str(folder).rpartition("-")[0] for folder in folders} == {"/var/lib/lockgate/gateway"}


@pytest.mark.parametrize(
    ("environ", "begins"),
    [
        ({"LOCKGATE_STATE": "/state", "XDG_STATE_HOME": "/xdg", "HOME": "/home/me"}, "/state/gateway-"),
        ({"XDG_STATE_HOME": "/xdg", "HOME": "/home/me"}, "/xdg/lockgate/gateway-"),
        ({"HOME": "/home/me"}, "/home/me/.local/state/lockgate/gateway-"),
    ],
)
def test_the_folder_follows_lockgate_state_xdg_state_home_and_home(environ: dict[str, str], begins: str) -> None:
    config = parse(b"providers: { local: {} }\nmodels: { m: local/any }\n", "/etc/lockgate/gateway.yaml")
    assert str(state_folder(config, environ)).startswith(begins)


def test_journal_setting_names_a_folder_or_off() -> None:
    text = "journal: {}\nproviders: {{ local: {{}} }}\nmodels: {{ m: local/any }}\n"
    for written, folder in (("off", None), ("books", Path("/etc/lockgate/books")), ("/var/books", Path("/var/books"))):
        assert state_folder(parse(text.format(written).encode(), "/etc/lockgate/gateway.yaml"), {}) == folder
    assert state_folder(load(BUILT_IN), {"LOCKGATE_STATE": "/state"}) is None
