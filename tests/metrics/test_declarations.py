"""The table of metrics, and docs/metrics.md, which lists every metric and explains every label.

python -m tests.metrics.test_declarations    # rewrite the tables of docs/metrics.md
"""

from __future__ import annotations

import re
from pathlib import Path

from gateway.metrics.declarations import COUNTERS, GAUGES, HISTOGRAMS

DOC = Path(__file__).parents[2] / "docs" / "metrics.md"
_SECTION = re.compile(r"(<!-- (counters|histograms|gauges) -->\n)(?:\n(?:\|[^\n]*\n)+)?", re.DOTALL)


def tables() -> dict[str, str]:
    """Return the tables by section."""
    counters = [f"| `{name}_total` | {_labels(labels)} | {text} |" for name, (text, labels) in COUNTERS.items()]
    gauges = [f"| `{name}` | {_labels(labels)} | {text} | {rule} |" for name, (text, labels, rule) in GAUGES.items()]
    histograms = [
        f"| `{name}` | {_labels([shown for shown, _ in view.labels])} | {view.text} |"
        for name, view in HISTOGRAMS.items()
    ]
    return {
        "counters": "\n".join(["| counter | labels | meaning |", "| --- | --- | --- |", *counters]),
        "gauges": "\n".join(["| gauge | labels | meaning | merged by |", "| --- | --- | --- | --- |", *gauges]),
        "histograms": "\n".join(["| histogram | labels | meaning |", "| --- | --- | --- |", *histograms]),
    }


def _labels(labels: object) -> str:
    return ", ".join(f"`{label}`" for label in labels)  # type: ignore[attr-defined]


def regenerated() -> str:
    """Return the document with new tables."""
    new = tables()
    return _SECTION.sub(lambda match: match[1] + "\n" + new[match[2]] + "\n", DOC.read_text())


def test_tables_of_the_document_match_the_code() -> None:
    text = DOC.read_text()
    for name, table in tables().items():
        assert f"<!-- {name} -->\n\n{table}\n" in text, "python -m tests.metrics.test_declarations"


def test_every_label_is_explained_in_the_document() -> None:
    text = DOC.read_text()
    labels = {label for _, names in COUNTERS.values() for label in names} | {
        label for _, names, _ in GAUGES.values() for label in names
    }
    for label in labels:
        assert re.search(rf"^\| [^|]*`{label}`[^|]* \| ", text, re.MULTILINE), label


def test_names_have_our_prefix_texts_are_sentences_and_no_label_is_private() -> None:
    texts = {name: text for name, (text, *_) in {**COUNTERS, **GAUGES}.items()}
    for name, text in {**texts, **{name: view.text for name, view in HISTOGRAMS.items()}}.items():
        assert name.startswith(("lockgate_", "gen_ai_"))
        assert text.endswith(".")
    assert not set(COUNTERS) & set(GAUGES)
    labels = {label for _, names in COUNTERS.values() for label in names}
    labels |= {label for _, names, _ in GAUGES.values() for label in names}
    assert not labels & {"user", "request_id", "id", "prompt", "path"}


if __name__ == "__main__":
    DOC.write_text(regenerated())
