"""`lockgate init` writes a valid, commented configuration with its schema, and never overwrites a file unasked."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from gateway.commands.init import SAMPLES, examples
from gateway.config import load as config
from tests.commands.test_cli import run
from tests.support.each import each

ROOT = Path(__file__).parents[2]


def written(folder: Path) -> dict[str, str]:
    """Return the files of a folder by name."""
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_default_configuration_is_written_with_its_schema_and_is_used_by_the_next_command(tmp_path: Path) -> None:
    done = run("init", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    files = written(tmp_path)
    assert files.keys() == {"gateway.yaml", "gateway.schema.json"}
    first, rest = files["gateway.yaml"].split("\n", 1)
    assert first == "# yaml-language-server: $schema=./gateway.schema.json"
    assert rest == (ROOT / "config" / "gateway.yaml").read_text().split("\n", 1)[1]
    jsonschema.validate(yaml.safe_load(rest), json.loads(files["gateway.schema.json"]))
    for command in ("lockgate check gateway.yaml", "lockgate serve "):
        assert command in done.stdout
    assert run("check", folder=tmp_path).stdout.startswith("gateway.yaml: ok")


@each("existing", ["gateway.yaml", "gateway.schema.json"])
def test_existing_file_is_overwritten_only_with_force(existing: str, tmp_path: Path) -> None:
    folder = tmp_path / Path(existing).stem
    folder.mkdir()
    (folder / existing).write_text("mine")
    done = run("init", folder=folder)
    assert done.returncode == 1
    assert f"{existing} exists" in done.stderr
    assert "--force" in done.stderr
    assert written(folder) == {existing: "mine"}
    assert run("init", "--force", folder=folder).returncode == 0
    assert "mine" not in written(folder).values()


def test_examples_are_those_of_the_repository(tmp_path: Path) -> None:
    names = sorted(path.stem for path in (ROOT / "config" / "examples").glob("*.yaml"))
    assert run("init", "--list", folder=tmp_path).stdout.split() == names == examples()
    assert written(tmp_path) == {}


def test_example_is_written_under_the_given_name(tmp_path: Path) -> None:
    done = run("init", "here.yaml", "--example", "fallback", folder=tmp_path)
    assert "lockgate serve --config here.yaml" in done.stdout
    text = (tmp_path / "here.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=./here.schema.json\n")
    assert text.count("yaml-language-server") == 1
    assert yaml.safe_load(text) == yaml.safe_load((ROOT / "config" / "examples" / "fallback.yaml").read_text())


def test_the_commands_that_it_names_use_the_file_that_it_wrote(tmp_path: Path) -> None:
    done = run("init", "my file.yaml", "--example", "keys", folder=tmp_path)
    assert "lockgate check 'my file.yaml' " in done.stdout
    assert "lockgate serve --config 'my file.yaml' " in done.stdout
    assert "127.0.0.1" not in done.stdout, "the example has another address"
    assert (tmp_path / "my file.yaml").read_text().startswith("# yaml-language-server: $schema=./my%20file.schema.json\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").write_text("models: {}")
    assert "lockgate serve --config gateway.yaml " in run("init", folder=tmp_path).stdout


def test_unknown_example_and_missing_folder_are_one_line_errors(tmp_path: Path) -> None:
    done = run("init", "--example", "redsi", folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no example 'redsi'; lockgate init --list names them" in done.stderr
    for name in ("", "absent/"):
        done = run("init", name, folder=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "is not the name of a file" in done.stderr
    done = run("init", "absent/gateway.yaml", folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot write absent/gateway.yaml" in done.stderr


def test_missing_engine_is_reported_with_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "local model needs" not in run("init", folder=tmp_path).stdout
    monkeypatch.setattr("gateway.config.extras.EXTRAS", {"local": ("no_such_engine",)})
    assert 'run pip install ".[local]" in the checkout' in run("init", "--force", folder=tmp_path).stdout


def test_file_in_config_is_preferred_to_the_file_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("init", folder=tmp_path)
    assert config.find_config_path({}) == "gateway.yaml"
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gateway.yaml").write_text("models: {}")
    assert config.find_config_path({}) == "config/gateway.yaml"


def test_samples_are_the_folder_of_the_repository() -> None:
    assert SAMPLES.resolve() == ROOT / "config"
