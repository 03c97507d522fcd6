"""Tests of the limit on open files."""

from __future__ import annotations

import resource

import pytest

from gateway.upstream.file_limit import affordable_connections, raise_file_limit
from gateway.upstream.native_transport import NativeTransport
from tests.support.each import each


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Replace the limits of this process by a list whose last item is the limit."""
    limits = [(1024, 1_048_576)]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, value: limits.append(value))
    return limits


def test_the_limit_is_raised_to_the_maximum(limit: list[tuple[int, int]]) -> None:
    raise_file_limit()
    assert limit[-1] == (1_048_576, 1_048_576)


@each(("files", "connections"), [(256, 1000), (1024, 1000), (20_512, 10_000), (1_048_576, 100_000), (resource.RLIM_INFINITY, 100_000)])
def test_half_of_the_files_are_for_connections_to_one_address(files: int, connections: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda kind: (files, files))
        assert affordable_connections() == connections
        assert NativeTransport().connections == connections
        assert NativeTransport(7).connections == 7
