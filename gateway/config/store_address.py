"""The address and passwords of the store that a configuration names."""

from __future__ import annotations

from msgspec import structs

from gateway.config.redis_address import RedisAddress, read_address
from gateway.config.secret import Secret, read_secret
from gateway.config.types import Config


class _UrlPassword(Secret):
    """The password in a store URL, if the URL is kept in a file. The file is read again at each connection."""

    def reread(self) -> Secret:
        """Return the password that the file holds now. Raise ValueError if the file is unusable."""
        assert self.path is not None
        return Secret(read_address(read_secret(self.path).reveal()).password)


def store_address(config: Config) -> RedisAddress:
    """Return the address of the configured Redis. Raise ValueError if the settings are invalid or contradict each other."""
    address = read_address(config.store, next(iter(config.store_password), None), config.store_ca)
    address = structs.replace(address, sentinel_secret=next(iter(config.store_sentinel_password), None))
    path = config.store.path
    if path is None or not address.password:
        return address
    return structs.replace(address, password="", secret=_UrlPassword(address.password, path))
