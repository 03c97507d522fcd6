"""The ledger of one process: its days, and a missing or unwritable folder."""

from __future__ import annotations

from pathlib import Path

from gateway.ledger.counters import KEPT_DAYS, UsageCounts, UsageRow
from gateway.ledger.ledger import Ledger

DAY_US = 86_400_000_000


def test_days_are_utc_dates_and_outdated_rows_are_dropped() -> None:
    now = [20_000 * DAY_US]
    ledger = Ledger(lambda line: None, lambda: now[0])
    assert ledger.today() == "2024-10-04"
    ledger.counters.add(UsageRow(ledger.today(), "k", "", "m", "up/m"), UsageCounts(requests=1))
    now[0] += KEPT_DAYS * DAY_US
    ledger.today()
    assert list(ledger.counters.all_copies())
    now[0] += DAY_US
    ledger.today()
    assert not list(ledger.counters.all_copies())


async def test_without_a_writable_folder_usage_is_kept_in_memory(tmp_path: Path) -> None:
    lines: list[str] = []
    ledger = Ledger(lines.append)
    ledger.start(None)
    assert (ledger.journal, lines) == (None, [])
    (tmp_path / "file").touch()
    ledger.start(tmp_path / "file" / "below")
    assert ledger.journal is None
    assert ["usage and spend are lost on restart" in line for line in lines] == [True]
    assert ledger.journal_errors == 0
    ledger.stop()
