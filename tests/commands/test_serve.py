"""`lockgate serve`: options that contradict each other."""

from __future__ import annotations

from click.testing import CliRunner

from gateway.commands.serve import serve
from tests.support.each import each


@each("options", [("--config", "my.yaml"), ("--workers", "2")])
def test_demo_has_its_own_configuration_and_one_worker(options: tuple[str, str]) -> None:
    done = CliRunner().invoke(serve, ["--demo", *options])
    assert done.exit_code == 2
    assert "leave out --config and --workers" in done.output
