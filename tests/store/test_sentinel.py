"""Options of the redis-py clients for Sentinel and Redis."""

from __future__ import annotations

from gateway.config.redis_address import RedisAddress
from gateway.store.client_options import client_options, credentials_provider
from gateway.store.sentinel import open_sentinel

ADDRESS = RedisAddress(kind="sentinel", nodes=(("127.0.0.1", 1), ("127.0.0.1", 2)), service="main", password="of-the-master")


def test_credentials_are_read_for_each_connection() -> None:
    passwords = iter(["first", "second"])
    provider = credentials_provider(lambda: ("", next(passwords)))
    assert [provider.get_credentials(), provider.get_credentials()] == [("first",), ("second",)]
    assert credentials_provider(lambda: ("user", "password")).get_credentials() == ("user", "password")


def test_clients_never_retry_and_have_timeouts() -> None:
    options = client_options(ADDRESS)
    assert options["retry"].get_retries() == 0
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 1.0
    assert "credential_provider" not in client_options(RedisAddress())


async def test_the_password_of_the_master_is_not_sent_to_sentinels() -> None:
    client = open_sentinel(ADDRESS, 0.4)
    options = [sentinel.connection_pool.connection_kwargs for sentinel in client.sentinels]
    assert [(one["host"], one["port"]) for one in options] == [("127.0.0.1", 1), ("127.0.0.1", 2)]
    assert [one.get("credential_provider") for one in options] == [None, None]
    assert {one["socket_timeout"] for one in options} == {0.4}
    for sentinel in client.sentinels:
        await sentinel.aclose()
