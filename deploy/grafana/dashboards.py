"""Generate the dashboards in deploy/grafana/dashboards from tables of panels.

    python deploy/grafana/dashboards.py          write the JSON files
    python deploy/grafana/dashboards.py --check  list the files that are out of date (exit code 1)

A query for a rare event ends in `or vector(0)`, so that its panel shows 0 instead of "No data".
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # a script, not part of the gateway package
from pages.health import HEALTH
from pages.latency import LATENCY
from pages.limits_and_spend import SPEND
from pages.normalization import NORMALIZATION
from pages.overview import OVERVIEW
from pages.providers import PROVIDERS

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = (OVERVIEW, PROVIDERS, SPEND, LATENCY, NORMALIZATION, HEALTH)


def files() -> dict[Path, str]:
    """Return the expected content of each dashboard file."""
    return {
        FOLDER / f"{dashboard.uid}.json": json.dumps(dashboard.document(), indent=1, ensure_ascii=False) + "\n" for dashboard in DASHBOARDS
    }


def main() -> int:
    """Write the files, or list those that are out of date."""
    if "--check" in sys.argv:
        stale = [path.name for path, text in files().items() if not path.exists() or path.read_text() != text]
        sys.stdout.write("".join(f"{name} is stale\n" for name in stale))
        return 1 if stale else 0
    for path, text in files().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
