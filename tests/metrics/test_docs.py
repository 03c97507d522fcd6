"""docs/metrics.md has every metric of the table, and says what every label means.

python -m tests.metrics.test_docs    # write its tables anew
"""

from __future__ import annotations

import re
from pathlib import Path

from gateway.metrics.table import COUNTERS, GAUGES, HISTOGRAMS

DOC = Path(__file__).parents[2] / "docs" / "metrics.md"
_SECTION = re.compile(r"(<!-- (counters|histograms|gauges) -->\n)(?:\n(?:\|[^\n]*\n)+)?", re.DOTALL)


def tables() -> dict[str, str]:
    """The tables as they should be."""
    counters = [f"| `{name}_total` | {_labels(labels)} | {text} |" for name, (text, labels) in COUNTERS.items()]
    gauges = [f"| `{name}` | {_labels(labels)} | {text} | {rule} |" for name, (text, labels, rule) in GAUGES.items()]
    histograms = [f"| `{name}` | {_labels([shown for shown, _ in view.labels])} | {view.text} |" for name, view in HISTOGRAMS.items()]
    return {
        "counters": "\n".join(["| counter | labels | meaning |", "| --- | --- | --- |", *counters]),
        "gauges": "\n".join(["| gauge | labels | meaning | of several |", "| --- | --- | --- | --- |", *gauges]),
        "histograms": "\n".join(["| histogram | labels | meaning |", "| --- | --- | --- |", *histograms]),
    }


def _labels(labels: object) -> str:
    return ", ".join(f"`{label}`" for label in labels)  # type: ignore[attr-defined]


def written() -> str:
    """The document with its tables as they should be."""
    found = tables()
    return _SECTION.sub(lambda match: match[1] + "\n" + found[match[2]] + "\n", DOC.read_text())


def test_the_tables_are_those_of_the_code() -> None:
    text = DOC.read_text()
    for name, table in tables().items():
        assert f"<!-- {name} -->\n\n{table}\n" in text, "python -m tests.metrics.test_docs"


def test_every_label_is_explained() -> None:
    text = DOC.read_text()
    labels = {label for _, names in COUNTERS.values() for label in names} | {label for _, names, _ in GAUGES.values() for label in names}
    for label in labels:
        assert re.search(rf"^\| [^|]*`{label}`[^|]* \| ", text, re.MULTILINE), label


if __name__ == "__main__":
    DOC.write_text(written())
