"""Listening sockets."""

from __future__ import annotations

import socket

import pytest

from gateway.config.formats import Address
from gateway.http.listener import ListenError, bind, seat_name, url_of


def test_a_free_port_is_bound_and_shown_as_a_url() -> None:
    with bind(Address("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        assert url_of(listener, tls=True) == f"https://127.0.0.1:{port}"
        assert not listener.getblocking()


def test_an_address_in_use_is_one_line() -> None:
    with bind(Address("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            bind(Address("127.0.0.1", port))
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_a_restarted_worker_has_the_same_seat_and_another_worker_has_not() -> None:
    with bind(Address("127.0.0.1", 0)) as listener:
        assert seat_name(listener, 1) == seat_name(listener, 1) != seat_name(listener, 2)
        assert seat_name(listener).startswith(socket.gethostname())
