"""The command line: exit codes, one line for every mistake, JSON output, fast help."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from msgspec.structs import asdict

from gateway.commands import cli as command
from gateway.config.load import Overrides

ROOT = Path(__file__).parents[2]
COMMANDS = ["serve", "init", "check", "schema", "openapi", "explain", "models", "pull", "version", "completion"]
COMMANDS += ["key", "team", "limits", "targets", "top", "usage", "calls", "route", "diff", "convert", "catalog", "notify"]
GOOD = "providers: {local: {}}\nmodels: {local: local/x, both: [local, {local/y: 3, local/z: 1}]}\n"
BAD = "listen: 1\nmodels: {m: local}\n"


def environ_with(env: dict[str, str] | None) -> dict[str, str]:
    """Return the environment of a command."""
    unset = ("LOCKGATE_CONFIG", "PORT", "ADMIN_PORT", "WORKERS")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return {**kept, "PYTHONPATH": str(ROOT), **(env or {})}


def run_apart(
    *args: str, folder: Path, env: dict[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    line = [sys.executable, "-m", "gateway", *args]
    return subprocess.run(
        line, cwd=folder, env=environ_with(env), input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


class Done(NamedTuple):
    """The exit code and the output of a command."""

    returncode: int
    stdout: str
    stderr: str


def run(*args: str, folder: Path, env: dict[str, str] | None = None, stdin: str = "") -> Done:
    """Run the command in this process, in a folder and with an environment like those of `run_apart`."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    source = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    with (
        mock.patch.dict(os.environ, environ_with(env), clear=True),
        mock.patch.object(sys, "stdin", source),
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = command.run(list(args))
    return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a valid and an invalid configuration, neither of them at a default path."""
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Replace serving and return the arguments of each attempt to serve."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def record(path: str, over: Overrides, **settings: Any) -> int:
        calls.append((path, {**asdict(over), **settings}))
        return 0

    monkeypatch.setattr("gateway.server.serve.run", record)
    for name in ("LOCKGATE_CONFIG", "PORT", "ADMIN_PORT", "WORKERS", "LOCKGATE_GRACE", "LOCKGATE_DRAIN"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_help_lists_every_command(folder: Path) -> None:
    found = run_apart("--help", folder=folder)
    assert (found.returncode, found.stderr) == (0, "")
    assert [line.split()[0] for line in found.stdout.partition("Commands:\n")[2].splitlines()] == COMMANDS
    assert "\x1b" not in found.stdout


def test_help_imports_no_heavy_module(folder: Path) -> None:
    code = (
        "import sys; from gateway.commands import cli as m; m.run(['--help']); "
        "print([n for n in ('asyncio', 'uvicorn', 'starlette', 'httpx', 'redis', 'prometheus_client', 'xllamacpp') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run([name, "--help"]) == 0
    assert f"lockgate {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["chekc"], "lockgate: No such command 'chekc'. Did you mean 'check'? (see: lockgate --help)\n"),
        (["qqq"], "lockgate: No such command 'qqq'. (see: lockgate --help)\n"),
        (["check", "--jsn"], "lockgate: No such option '--jsn'. Did you mean '--json'? (see: lockgate check --help)\n"),
        (["serve", "--grace", "5"], "(add a unit) (see: lockgate serve --help)\n"),
        (["serve", "--port", "many"], "'many' is not a valid integer range. (see: lockgate serve --help)\n"),
        (["--port", "70000"], "70000 is not in the range 0<=x<=65535. (see: lockgate serve --help)\n"),
        (["explain"], "lockgate: Missing argument 'FILE'. (see: lockgate explain --help)\n"),
        (["completion", "tcsh"], "lockgate: Invalid value for 'SHELL': 'tcsh' is not one of 'bash', 'zsh', 'fish'."),
        (["serve", "--log", "loud"], "'loud' is not one of 'auto', 'human', 'json'."),
        (["check", "nothing.yaml"], "nothing.yaml: no such file\n"),
        (["models", "--config", "nothing.yaml"], "nothing.yaml: no such file\n"),
        (
            ["explain", "--config", "good.yaml", "nothing.json"],
            "lockgate: cannot read nothing.json: No such file or directory",
        ),
    ],
)
def test_wrong_usage_is_one_line_on_stderr_and_exit_code_2(folder: Path, args: list[str], error: str) -> None:
    found = run(*args, folder=folder)
    assert (found.returncode, found.stdout) == (2, "")
    assert error in found.stderr
    assert found.stderr.count("\n") == 1


def test_check_of_a_valid_file_prints_its_counts(folder: Path) -> None:
    found = run_apart("check", "good.yaml", folder=folder)
    assert (found.returncode, found.stdout, found.stderr) == (0, "good.yaml: ok (1 provider, 2 models, 0 keys)\n", "")
    data = json.loads(run("check", "good.yaml", "--json", folder=folder).stdout)
    assert data == {"ok": True, "file": "good.yaml", "problems": [], "warnings": [], "providers": 1, "models": 2, "keys": 0}


def test_check_lists_every_mistake_of_an_invalid_file(folder: Path) -> None:
    found = run("check", "bad.yaml", folder=folder)
    assert (found.returncode, found.stdout) == (2, "")
    assert [line.split(": ")[:2] for line in found.stderr.splitlines()] == [
        ["bad.yaml:1:9", "listen"],
        ["bad.yaml:2:13", "models.m"],
    ]
    found = run("check", "--json", "bad.yaml", folder=folder)
    data = json.loads(found.stdout)
    assert (found.returncode, found.stderr, data["ok"]) == (2, "", False)
    assert [(one["line"], one["column"], one["path"]) for one in data["problems"]] == [
        (1, 9, "listen"),
        (2, 13, "models.m"),
    ]


def test_configuration_is_found_in_environment_and_folder_else_built_in(folder: Path) -> None:
    assert run("check", folder=folder).stdout == "(built-in): ok (1 provider, 2 models, 0 keys)\n"
    assert run("check", folder=ROOT).stdout.startswith("config/gateway.yaml: ok")
    assert run("check", folder=folder, env={"LOCKGATE_CONFIG": "bad.yaml"}).returncode == 2
    assert run("models", folder=folder, env={"LOCKGATE_CONFIG": "good.yaml"}).stdout.startswith("local")


def test_models_are_listed_with_their_routes(folder: Path) -> None:
    found = run("models", "-c", "good.yaml", folder=folder)
    assert found.stdout == "local  local/x\nboth   local, then local/y (75%) or local/z (25%)\n"
    data = json.loads(run("models", "-c", "good.yaml", "--json", folder=folder).stdout)
    assert data == {
        "models": [
            {"name": "local", "targets": "local/x"},
            {"name": "both", "targets": ["local", {"local/y": 3, "local/z": 1}]},
        ],
        "discovered": [],
    }


def test_schema_prints_the_committed_schema(folder: Path) -> None:
    assert run("schema", folder=folder).stdout == (ROOT / "config" / "schema.json").read_text()


def test_version_is_a_line_or_json(folder: Path) -> None:
    line = run("version", folder=folder).stdout
    assert line.startswith("lockgate ")
    assert run_apart("--version", folder=folder).stdout == line
    data = json.loads(run("version", "--json", folder=folder).stdout)
    assert data["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert line == f"lockgate {data['version']}\n"


@pytest.mark.parametrize(
    ("shell", "mark"),
    [("bash", "complete -o nosort -F"), ("zsh", "#compdef lockgate"), ("fish", "complete --no-files")],
)
def test_completion_scripts_are_printed(shell: str, mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert mark in out
    assert "_LOCKGATE_COMPLETE" in out


def test_completion_offers_commands_and_options(folder: Path) -> None:
    asked = {"_LOCKGATE_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    assert run_apart(folder=folder, env={**asked, "COMP_WORDS": "lockgate ch"}).stdout == "plain,check\n"
    asked["COMP_CWORD"] = "2"
    assert "plain,--workers" in run_apart(folder=folder, env={**asked, "COMP_WORDS": "lockgate serve --w"}).stdout
    asked["COMP_CWORD"] = "3"
    assert "plain,--workers" in run_apart(folder=folder, env={**asked, "COMP_WORDS": "lockgate --port 1 --w"}).stdout


def test_explain_shows_the_plan_without_an_upstream(folder: Path) -> None:
    (folder / "vllm.yaml").write_text(
        "providers: {vllm: {base_url: 'http://127.0.0.1:1/v1'}}\nmodels: {m: vllm/llama}\n"
    )
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    (folder / "request.json").write_text(body)
    found = run("explain", "request.json", "--config", "vllm.yaml", folder=folder)
    plan = json.loads(found.stdout)
    assert (found.returncode, found.stderr) == (0, "")
    assert [one["target"] for one in plan["targets"]] == ["vllm/llama"]
    assert plan["targets"][0]["request"]["url"] == "http://127.0.0.1:1/v1/chat/completions"
    piped = run_apart("explain", "-", "-c", "vllm.yaml", "--strict", folder=folder, stdin=body)
    assert json.loads(piped.stdout)["strict"] is True


@pytest.mark.parametrize("body", ["", "nonsense", "[]", '{"messages": []}', '{"model": "none", "messages": []}'])
def test_explain_prints_the_error_that_a_caller_would_get(folder: Path, body: str) -> None:
    found = run("explain", "-", "-c", "good.yaml", folder=folder, stdin=body)
    assert (found.returncode, found.stderr) == (1, "")
    assert json.loads(found.stdout)["error"]["message"]


def test_pull_into_an_impossible_directory_is_a_one_line_error(folder: Path) -> None:
    (folder / "file").write_text("")
    for model in ((), ("--embeddings",)):
        found = run("pull", *model, "--directory", "file/below", folder=folder)
        assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("lockgate: cannot store the model in file/below")
    assert found.stderr.count("\n") == 1


def test_serve_is_the_default_command(served: list[tuple[str, dict[str, Any]]]) -> None:
    defaults = {
        "host": None,
        "port": None,
        "admin_port": None,
        "grace": None,
        "drain": None,
        "workers": 1,
        "log": "auto",
    }
    options = ["--config", "x.yaml", "--host", "::1", "--port", "1", "--admin-port", "2"]
    assert [command.run(args) for args in ([], ["serve"], options)] == [0, 0, 0]
    assert [settings for _, settings in served] == [
        defaults,
        defaults,
        {**defaults, "host": "::1", "port": 1, "admin_port": 2},
    ]
    assert served[2][0] == "x.yaml"


def test_serve_reads_its_options_from_the_environment(
    served: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "LOCKGATE_CONFIG": "env.yaml",
        "PORT": "7",
        "ADMIN_PORT": "8",
        "WORKERS": "3",
        "LOCKGATE_GRACE": "5s",
    }.items():
        monkeypatch.setenv(name, value)
    assert command.run(["--port", "9", "--log", "json", "--drain", "0"]) == 0
    assert served == [
        (
            "env.yaml",
            {"host": None, "port": 9, "admin_port": 8, "grace": 5.0, "drain": 0.0, "workers": 3, "log": "json"},
        )
    ]


def test_serving_an_invalid_file_lists_its_mistakes_with_exit_code_2(folder: Path) -> None:
    found = run_apart("--config", "bad.yaml", folder=folder)
    assert (found.returncode, found.stdout) == (2, "")
    assert [line.split(": ")[0] for line in found.stderr.splitlines()] == ["bad.yaml:1:9", "bad.yaml:2:13"]


def test_interrupt_exits_with_130_and_prints_nothing(folder: Path) -> None:
    os.mkfifo(folder / "request.json")
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "explain", "request.json"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # the signal may be ignored in the environment of the tests
    )  # fmt: skip
    with (folder / "request.json").open("wb"):  # blocks until the command has opened the pipe, which stays empty
        process.send_signal(signal.SIGINT)
        with suppress(
            subprocess.TimeoutExpired
        ):  # Python handles a signal that came just before a blocking read only after it
            process.communicate(timeout=5)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "")


def test_closed_pipe_causes_no_traceback(folder: Path) -> None:
    line = f"{sys.executable} -m gateway schema | head -c 10"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (len(done.stdout), done.stderr) == (10, "")


@pytest.mark.parametrize(("env", "colour"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_output_is_coloured_on_terminals_unless_no_color_is_set(
    folder: Path, env: dict[str, str], colour: bool
) -> None:
    reader, writer = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "gateway", "check", "good.yaml"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **env}, stdout=writer, timeout=60, check=True,
    )  # fmt: skip
    shown = os.read(reader, 10_000).decode()
    os.close(reader)
    os.close(writer)
    assert ("\x1b[32m" in shown) is colour
    assert "\x1b" not in run("check", "good.yaml", folder=folder).stdout
