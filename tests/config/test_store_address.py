"""The address of the store: the URL with its separate passwords, and passwords that are read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import Config, parse
from gateway.config.store_address import store_address


def config(text: str, folder: Path = Path("/etc/lockgate")) -> Config:
    """Return the configuration of a YAML text in `folder`."""
    return parse(text.encode(), str(folder / "gateway.yaml"), environ={"P": "store-secret", "S": "sentinel-secret"})


def test_passwords_are_added_to_the_url() -> None:
    text = "store: redis+sentinel://u@a,b/main\nstore_password: '${P}'\nstore_sentinel_password: '${S}'\n"
    address = store_address(config(text))
    assert (address.kind, address.service) == ("sentinel", "main")
    assert address.credentials() == ("u", "store-secret")
    assert address.sentinel_credentials() == ("", "sentinel-secret")


def test_a_url_in_a_file_is_read_again_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.write_text("redis://u:first@h/0\n")
    file.chmod(0o600)
    address = store_address(config("store: file:store\n", tmp_path))
    assert address.credentials() == ("u", "first")
    file.write_text("redis://u:second@h/0\n")
    assert address.credentials() == ("u", "second")
    file.unlink()
    with pytest.raises(ValueError, match="cannot read"):
        address.credentials()


def test_a_password_in_the_url_itself_stays_as_it_is() -> None:
    assert store_address(config("store: 'redis://u:${P}@h/0'\n")).credentials() == ("u", "store-secret")
