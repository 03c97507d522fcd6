"""Sources of a configuration: a file that changes, and a loaded text that can be parsed without its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import BUILT_IN, ConfigError, Overrides
from gateway.config.source import ConfigSource

YAML = "providers: { openai: { api_key: file:key } }\nmodels: { m: openai/gpt-4o }\n"


@pytest.fixture
def source(tmp_path: Path) -> ConfigSource:
    """Return the source of a valid file with a secret in another file."""
    (tmp_path / "gateway.yaml").write_text(YAML)
    (tmp_path / "key").write_text("sk-first")
    (tmp_path / "key").chmod(0o600)
    return ConfigSource(str(tmp_path / "gateway.yaml"), Overrides(port=9), environ={})


@pytest.mark.parametrize("name", ["gateway.yaml", "key"])
def test_a_change_of_the_file_or_of_its_secrets_is_noticed(source: ConfigSource, tmp_path: Path, name: str) -> None:
    source.read()
    assert source.changed_fingerprints() == {}
    (tmp_path / name).write_text((tmp_path / name).read_text() + "# more")
    assert source.changed_fingerprints()[str(tmp_path / name)] != source.fingerprints[str(tmp_path / name)]


def test_an_invalid_file_is_not_read_again_until_it_changes(source: ConfigSource, tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("nonsense: 1\n")
    with pytest.raises(ConfigError):
        source.read()
    assert source.changed_fingerprints() == {}
    (tmp_path / "gateway.yaml").write_text(YAML)
    assert source.changed_fingerprints()


def test_the_text_can_be_parsed_without_its_files(source: ConfigSource, tmp_path: Path) -> None:
    loaded = source.read()
    (tmp_path / "key").unlink()
    (tmp_path / "gateway.yaml").unlink()
    again = loaded.text.parse(environ={})
    assert again == loaded.config
    assert (again.providers["openai"].api_key[0].reveal(), again.listen.port) == ("sk-first", 9)


def test_the_built_in_configuration_never_changes() -> None:
    source = ConfigSource(BUILT_IN, Overrides(), environ={})
    assert source.read().config.path == BUILT_IN
    assert source.changed_fingerprints() == {}
