"""Call records in Redis: the content and the limits of the stream, outages, and copies that queries read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from gateway.config.load import ConfigError, parse
from gateway.config.redis_address import RedisAddress, read_address
from gateway.store.errors import StoreUnavailableError
from gateway.telemetry import record_copy, record_stream
from gateway.telemetry.call_records import CallRecords, recorder_of
from gateway.telemetry.record_copy import RecordCopy
from gateway.telemetry.record_query import find_record, find_records, read_record_query
from gateway.telemetry.record_stream import SIZE, STREAM, RecordStream
from tests.flows.live import eventually
from tests.support.redis import RedisServer
from tests.support.redis_topologies import ClusterServers, SentinelServers, run_command
from tests.telemetry.test_record_file import NOW, line

STORES = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
TTL_S = 3600.0


@contextmanager
def stream(address: RedisAddress, ttl_s: float = TTL_S, max_bytes: int = 1 << 20) -> Iterator[RecordStream]:
    """Return a stream that is closed after the block."""
    with closing(RecordStream(address, ttl_s, max_bytes)) as one:
        yield one


def found(copy: RecordCopy, **params: str) -> list[str]:
    """Return the ids of the calls that match, after a refresh."""
    copy.refresh()
    records = find_records(copy.path, read_record_query(params, NOW)).records
    return [msgspec.json.decode(record)["id"] for record in records]


async def used(address: RedisAddress) -> tuple[int, int]:
    """Return the number of records, and the size that the store counts."""
    return int(await run_command(address, "XLEN", STREAM)), int(await run_command(address, "GET", SIZE))


async def test_all_instances_find_the_records_of_all_with_the_same_rows_and_filters(redis: RedisServer, tmp_path: Path) -> None:
    def use() -> None:
        copies = [RecordCopy(redis.address, tmp_path / name / "calls.db") for name in ("one", "other")]
        with stream(redis.address) as one, stream(redis.address) as other:
            one.append([line("1", NOW - 20, key="app", ms=2500.0, cost_usd=0.25)], NOW)
            other.append([line("2", NOW - 10, status=429), line("3", NOW, client_id="mine")], NOW)
            assert [found(copy) for copy in copies] == [["3", "2", "1"]] * 2
            one.append([line("4", NOW)], NOW)
            assert [found(copy) for copy in copies] == [["4", "3", "2", "1"]] * 2
        assert (found(copies[0], key="app", slow="2s"), found(copies[0], status="4xx"), found(copies[0], since="15s")) == (
            ["1"], ["2"], ["4", "3", "2"],
        )  # fmt: skip
        assert [msgspec.json.decode(record)["id"] for record in find_record(copies[0].path, "mine")] == ["3"]
        assert {each.stat().st_mode & 0o777 for each in (tmp_path / "one").iterdir()} == {0o600}

    await asyncio.to_thread(use)


async def test_the_oldest_records_make_room_for_new_ones(redis: RedisServer, tmp_path: Path) -> None:
    def use() -> None:
        copy = RecordCopy(redis.address, tmp_path / "calls.db")
        with stream(redis.address, max_bytes=100_000) as one:
            for batch in range(20):
                one.append([line(f"{batch}-{number}", message="x" * 1000) for number in range(20)], NOW)
                assert len(found(copy, limit="1000")) <= 100
        everything = [f"{batch}-{number}" for batch in range(20) for number in range(20)]
        kept = found(copy, limit="1000")[::-1]
        assert 60 < len(kept) <= 100
        assert kept == everything[-len(kept) :]

    await asyncio.to_thread(use)
    count, size = await used(redis.address)
    assert size <= 100_000
    entries = await run_command(redis.address, "XRANGE", STREAM, "-", "+")
    assert size == sum(len(fields[1]) + 64 for _, fields in entries)
    assert count == len(entries)


@pytest.mark.parametrize("rubbish", ["SET", "RPUSH"])
async def test_keys_with_other_data_are_rebuilt(redis: RedisServer, tmp_path: Path, rubbish: str) -> None:
    one = RecordStream(redis.address, TTL_S, 1 << 20)
    await asyncio.to_thread(one.append, [line("0")], NOW)
    for number, key in enumerate((STREAM, SIZE, one._writer)):
        await run_command(redis.address, "DEL", key)
        await run_command(redis.address, rubbish, key, "x")
        await asyncio.to_thread(one.append, [line(f"{number + 1}")], NOW)
    await asyncio.to_thread(one.close)
    assert await asyncio.to_thread(found, RecordCopy(redis.address, tmp_path / "calls.db")) == ["3", "2", "1"]
    assert (await used(redis.address))[0] == 3


async def test_old_records_are_deleted(redis: RedisServer, tmp_path: Path) -> None:
    await run_command(redis.address, "XADD", STREAM, "1000-0", "line", line("old").rstrip())

    def use() -> None:
        copy = RecordCopy(redis.address, tmp_path / "calls.db")
        assert found(copy) == ["old"]
        with stream(redis.address) as one:
            one.append([line("new")], NOW)
        assert found(copy) == ["new"]

    await asyncio.to_thread(use)


async def test_a_batch_whose_reply_was_lost_is_added_once(redis: RedisServer, tmp_path: Path) -> None:
    def use() -> None:
        copy = RecordCopy(redis.address, tmp_path / "calls.db")
        with stream(redis.address) as one:
            one.append([line("1")], NOW)
            one._batch = [line("1").rstrip()]  # as after a lost reply: the batch was added, and its number is still the last
            one.append([line("2")], NOW)
        assert found(copy) == ["2", "1"]

    await asyncio.to_thread(use)


async def test_records_wait_for_redis_and_those_beyond_the_buffer_are_counted(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_stream, "MAX_LINES", 2)
    reports: list[str] = []
    records = CallRecords(RecordStream(redis.address, TTL_S, 1 << 20), reports.append)
    records.add(line("0"))
    await records.flush()
    redis.kill()
    for number in range(1, 5):
        records.add(line(str(number)))
    await records.flush()
    assert records.drops == 2
    redis.start()
    await eventually(lambda: len(reports) == 2)
    await records.stop()
    assert "records of calls wait until this is repaired" in reports[0]
    assert reports[1] == "calls: calls are recorded again"
    assert records.drops == 2
    copy = RecordCopy(redis.address, tmp_path / "calls.db")
    assert [id for id in await asyncio.to_thread(found, copy) if id != "0"] == ["2", "1"]


async def test_a_copy_follows_a_redis_that_lost_its_records(redis: RedisServer, tmp_path: Path) -> None:
    copy = RecordCopy(redis.address, tmp_path / "calls.db")

    def append(*names: str) -> list[str]:
        with stream(redis.address) as one:
            one.append([line(name) for name in names], NOW)
        return found(copy)

    assert await asyncio.to_thread(append, "1", "2") == ["2", "1"]
    await run_command(redis.address, "FLUSHALL")
    assert await asyncio.to_thread(found, copy) == []
    assert await asyncio.to_thread(append, "3") == ["3"]
    copy.path.write_bytes(b"this is no database" * 1000)
    assert await asyncio.to_thread(found, copy) == ["3"]


async def test_two_processes_may_update_one_copy_at_the_same_time(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use() -> None:
        one, other = (RecordCopy(redis.address, tmp_path / "calls.db") for _ in range(2))
        with stream(redis.address) as store:
            store.append([line("1"), line("2")], NOW)
        row = record_copy._row

        def row_after_the_other_process(id: bytes, fields: dict[bytes, bytes]) -> tuple[object, ...] | None:
            monkeypatch.setattr(record_copy, "_row", row)
            thread = Thread(target=other.refresh)
            thread.start()
            thread.join()
            return row(id, fields)

        monkeypatch.setattr(record_copy, "_row", row_after_the_other_process)
        assert found(one) == ["2", "1"]

    await asyncio.to_thread(use)


async def test_a_record_of_another_version_is_skipped(redis: RedisServer, tmp_path: Path) -> None:
    await run_command(redis.address, "XADD", STREAM, "*", "later", "{}")
    await run_command(redis.address, "XADD", STREAM, "*", "line", "{}")
    await run_command(redis.address, "XADD", STREAM, "*", "line", line("kept").rstrip())
    assert await asyncio.to_thread(found, RecordCopy(redis.address, tmp_path / "calls.db")) == ["kept"]


async def test_a_dead_redis_is_an_error_of_the_query(tmp_path: Path) -> None:
    copy = RecordCopy(RedisAddress(host="127.0.0.1", port=9), tmp_path / "calls.db")
    with pytest.raises(StoreUnavailableError):
        await asyncio.to_thread(copy.refresh)


@pytest.mark.parametrize("servers", ["sentinel", "cluster"], indirect=True)
async def test_every_kind_of_store_keeps_records(servers: ClusterServers | SentinelServers, tmp_path: Path) -> None:
    await servers.empty()

    def use() -> None:
        with stream(servers.address) as one:
            one.append([line("1"), line("2")], NOW)
        assert found(RecordCopy(servers.address, tmp_path / "calls.db")) == ["2", "1"]

    await asyncio.to_thread(use)


async def test_documented_rights_suffice(redis: RedisServer, tmp_path: Path) -> None:
    documented = re.search(r"user gateway (on >PASSWORD [^`]*)```", STORES)
    assert documented is not None
    await run_command(redis.address, "ACL", "SETUSER", "gateway", *documented[1].replace(">PASSWORD", ">secret").split())
    address = read_address(f"redis://gateway:secret@127.0.0.1:{redis.port}/0")

    def use() -> None:
        with stream(address, max_bytes=150) as one:
            one.append([line("1"), line("2")], NOW)
        assert found(RecordCopy(address, tmp_path / "calls.db")) == []

    await asyncio.to_thread(use)


def test_shared_records_need_a_shared_store(tmp_path: Path) -> None:
    def read(text: str) -> object:
        return recorder_of(parse(text.encode(), str(tmp_path / "g.yaml"), environ={}), {})

    assert isinstance(read("store: redis://r:6379/0\ncalls: { store: redis }\njournal: off"), RecordStream)
    assert read("store: redis://r:6379/0\ncalls: { store: redis, max_bytes: 0 }") is None
    with pytest.raises(ConfigError, match=r"calls\.store: requires a Redis store"):
        read("calls: { store: redis }")
