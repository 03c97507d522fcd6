"""Writes the dashboards of deploy/grafana/dashboards: what each page shows, as a table of panels.

    python deploy/grafana/dashboards.py          write the JSON files
    python deploy/grafana/dashboards.py --check  say which of them are stale (exit code 1)

A query about something rare ends in `or vector(0)`: a panel that says 0 tells more than one that says "No data".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # a script beside the gateway, no package of it
from pages.health import HEALTH
from pages.latency import LATENCY
from pages.limits_and_spend import SPEND
from pages.normalization import NORMALIZATION
from pages.overview import OVERVIEW
from pages.providers import PROVIDERS

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = (OVERVIEW, PROVIDERS, SPEND, LATENCY, NORMALIZATION, HEALTH)


def files() -> dict[Path, str]:
    """Every dashboard's file and what belongs into it."""
    return {FOLDER / f"{one.uid}.json": json.dumps(one.document(), indent=1, ensure_ascii=False) + "\n" for one in DASHBOARDS}


def main() -> int:
    """Write the files, or name those that are stale."""
    if "--check" in sys.argv:
        stale = [path.name for path, text in files().items() if not path.exists() or path.read_text() != text]
        sys.stdout.write("".join(f"{name} is stale\n" for name in stale))
        return 1 if stale else 0
    for path, text in files().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
