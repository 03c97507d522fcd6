"""The packages anthropic and openai assemble every recorded stream, translated to their APIs, to the same answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.client_programs import MAIN_BIN, run_program
from tests.dialects.recorded_streams import APIS, chat_pieces, translated
from tests.dialects.test_recorded_streams import CASES, wire_of

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]


def test_the_packages_assemble_every_stream(tmp_path: Path) -> None:
    pairs = [(api, case) for case in CASES for api in APIS]
    streams = [(api.name, translated(api.translator(), chat_pieces(case.shape, [wire_of(case)])[0]).decode()) for api, case in pairs]
    path = tmp_path / "streams.json"
    path.write_text(json.dumps(streams))
    answers = run_program("assemble_streams.py", MAIN_BIN / "python", {"STREAMS": str(path), "HOME": "/"})["answers"]
    for (api, case), answer in zip(pairs, answers, strict=True):
        where = f"{api.name}: {case.shape.kind}, {case.shape.name}"
        assert api.meaning(answer) == api.expected(case), where
