"""Run the services of docker-compose.yml as plain processes, with the programs of this machine instead of images.

The real `docker compose config` reads the file. Each service runs with the entrypoint, command, environment, volumes, secrets, ports,
health check, dependencies and stop grace of the file. Container features are translated:

    a path in the container   a file or folder under the stack's folder, in arguments, files and health checks
    a published port          the published host port; other ports are free ports
    HOST:PORT of a service    127.0.0.1 and that port
    an image                  its program: redis-server, prometheus, alertmanager, the gateway of this checkout

Users, capabilities, limits and read-only roots need a container engine and are not applied; test_compose.py checks their text.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.ports import free_port
from tests.deploy import tools
from tests.support.redis import redis_server_program

ROOT = tools.ROOT
LONGEST_WAIT = 240.0
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "LOCKGATE_CACHE", "LOCKGATE_STATE")


def seconds(text: str) -> float:
    """Return the seconds of a duration in the form that compose writes, such as 1m30s."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text))


def dockerfile(instruction: str) -> list[str]:
    """Return the words of the last ENTRYPOINT or CMD that is in JSON form in deploy/Dockerfile."""
    result = re.findall(rf"^{instruction} (\[.*\])$", (tools.DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    words: list[str] = json.loads(result[-1])
    return words


def variables() -> dict[str, str]:
    """Return the environment of the image, except for the paths of programs and model."""
    (text,) = re.findall(r"^ENV (PATH=[^\\\n]*(?:\\\n[^\\\n]*)*)$", (tools.DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    result = dict(word.split("=", 1) for word in text.replace("\\\n", " ").split())
    return {name: value for name, value in result.items() if name not in ("PATH", "LOCKGATE_CACHE")}


class Service:
    """One service as a process, with its output in a file."""

    def __init__(self, stack: Stack, name: str, definition: dict[str, Any]) -> None:
        self.name = name
        self.definition = definition
        self._stack = stack
        self.log = stack.folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.folder = stack.folder / name
        self.folder.mkdir()
        self.paths = dict(self._mounts())

    def _mounts(self) -> dict[str, Path]:
        """Return the local path of each container path."""
        result = {path.split(":")[0]: self._made(path.split(":")[0]) for path in self.definition.get("tmpfs", [])}
        for entry in self.definition.get("volumes", []):
            if entry["type"] == "volume":
                result[entry["target"]] = self._stack.volume(entry["source"])
            else:
                result[entry["target"]] = self._copied(Path(entry["source"]), entry["target"])
        for entry in self.definition.get("secrets", []):
            target = entry.get("target") or f"/run/secrets/{entry['source']}"
            result[target] = Path(self._stack.config["secrets"][entry["source"]]["file"])
        return result | self._parents(result)

    def _parents(self, mounts: dict[str, Path]) -> dict[str, Path]:
        """Return a folder for each path in the command that contains mounts. The folder has links to the mounts."""
        words = [*(self.definition.get("entrypoint") or []), *(self.definition.get("command") or [])]
        result = {}
        for word in words:
            inside = [path for path in mounts if path.startswith(f"{word}/")] if word.startswith("/") else []
            if inside:
                result[word] = self._made(word)
            for path in inside:
                (result[word] / path.removeprefix(f"{word}/")).symlink_to(mounts[path])
        return result

    def _made(self, path: str) -> Path:
        folder = self.folder / path.strip("/")
        folder.mkdir(parents=True)
        return folder

    def _copied(self, source: Path, target: str) -> Path:
        """Copy a bind mount, because its files contain container paths and hosts. Return the path of the copy."""
        here = self.folder / target.strip("/")
        here.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, here)
        return here

    def translate_files(self) -> None:
        """Translate container paths and hosts in the mounted files."""
        for entry in self.definition.get("volumes", []):
            here = self.paths[entry["target"]]
            if entry["type"] == "bind":
                for file in [here] if here.is_file() else [path for path in here.rglob("*") if path.is_file()]:
                    file.write_text(self.translated(file.read_text()))

    def translated(self, text: str) -> str:
        """Translate container paths, hosts and ports in a text, in one pass, so that no part is translated twice."""
        paths = "|".join(re.escape(path) for path in sorted(self.paths, key=len, reverse=True)) or "(?!)"
        own = "|".join(str(port) for port in self._ports) or "(?!)"
        path, port = rf"(?<![\w/.])(?P<path>{paths})(?=/|\b)", rf"(?<![\d.])(?P<port>{own})(?![\d.])"
        pattern = rf"{path}|\b(?P<host>[a-z]+):(?P<there>\d+)\b|(?P<any>0\.0\.0\.0)|{port}"
        return re.sub(pattern, self._translate, text)

    def _translate(self, match: re.Match[str]) -> str:
        if match["path"]:
            return str(self.paths[match["path"]])
        if match["host"]:
            port = self._stack.ports.get(match["host"], {}).get(int(match["there"]))
            return match[0] if port is None else f"127.0.0.1:{port}"
        return "127.0.0.1" if match["any"] else str(self._ports[int(match["port"])])

    @property
    def _ports(self) -> dict[int, int]:
        """Return the local port of each container port. Services with the same image are included, because init configures the gateway."""
        image = self.definition.get("image")
        same = [name for name, entry in self._stack.config["services"].items() if entry.get("image") == image]
        return {port: local for name in same for port, local in self._stack.ports.get(name, {}).items()}

    def argv(self, words: list[str]) -> list[str]:
        """Translate a command line of the container."""
        result = [self.translated(word) for word in words]
        if result[0] == "/opt/lockgate/bin/python":
            # -I would hide this checkout from the interpreter; -P keeps the relevant part
            result = [sys.executable, *("-P" if word == "-I" else word for word in result[1:])]
        if result[0] == "/bin/alertmanager":
            result[0] = tools.debian("prometheus-alertmanager")
        if result[0] == "redis-server":
            result[0] = redis_server_program() or tools.debian("redis-server")
        return result

    @property
    def ours(self) -> bool:
        """Return whether the service runs the image of deploy/Dockerfile."""
        return str(self.definition.get("image", "")).startswith("lockgate:")

    @property
    def environment(self) -> dict[str, str]:
        """Return the service's variables and those that every process needs."""
        kept = {name: value for name, value in os.environ.items() if name in KEPT}
        image = variables() if self.ours else {}
        own = {name: self.translated(str(value)) for name, value in (image | (self.definition.get("environment") or {})).items()}
        return {**kept, "PYTHONPATH": str(ROOT), **own}

    def start(self, *instead: str) -> None:
        """Start the service, with its own command or `instead`, like `docker compose run`."""
        entrypoint = self.definition.get("entrypoint") or (dockerfile("ENTRYPOINT") if self.ours else [])
        command = self.definition.get("command") or (dockerfile("CMD") if self.ours and not self.definition.get("entrypoint") else [])
        words = self.argv([*entrypoint, *(instead or command)])
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(words, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def healthy(self) -> bool:
        """Run the health check once and return whether it passed."""
        kind, *words = self.definition["healthcheck"]["test"]
        words = ["/bin/sh", "-c", self.translated(words[0])] if kind == "CMD-SHELL" else self.argv(words)
        limit = seconds(self.definition["healthcheck"]["timeout"])
        try:
            # twice the timeout, because this machine may be busy
            done = subprocess.run(words, env=self.environment, cwd=self.folder, capture_output=True, timeout=2 * limit, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def wait_for(self, condition: str) -> None:
        """Wait for a condition of `depends_on` as compose does."""
        assert self.process is not None, f"{self.name} was not started"
        if condition == "service_completed_successfully":
            assert self.process.wait(LONGEST_WAIT) == 0, self.output
        if condition != "service_healthy":
            return
        check = self.definition["healthcheck"]
        pause = seconds(check.get("start_interval") or check["interval"])
        deadline = time.monotonic() + LONGEST_WAIT
        while not self.healthy():
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"{self.name} did not become healthy:\n{self.output}"
            time.sleep(pause)

    def stop(self) -> int:
        """Stop like `docker compose stop` and return the exit code, -9 if the grace was too short."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds(self.definition.get("stop_grace_period", "10s")))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    @property
    def output(self) -> str:
        """Return the output."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Stack:
    """The services of a compose file, started in the order of their dependencies and stopped in reverse."""

    def __init__(
        self, folder: Path, *files: Path, profile: str = "full", without: tuple[str, ...] = (), variables: Mapping[str, str] | None = None
    ) -> None:
        """Read the files. `variables` are the variables of the shell or .env, including the host ports."""
        self.folder = folder
        command = [tools.compose(), "--project-directory", str(ROOT), *(word for file in files for word in ("-f", str(file)))]
        command += ["--profile", profile]
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), **(variables or {})}
        done = tools.run(*command, "config", "--format", "json", env=env)
        assert done.returncode == 0, done.stderr
        self.config: dict[str, Any] = json.loads(done.stdout.replace("$$", "$"))  # config escapes dollars
        wanted = {name: entry for name, entry in self.config["services"].items() if name not in without}
        self.ports = {name: self._ports(name, entry) for name, entry in wanted.items()}
        self.services = {name: Service(self, name, entry) for name, entry in wanted.items()}
        for service in self.services.values():
            service.translate_files()
        self._started: list[Service] = []

    def _ports(self, name: str, definition: dict[str, Any]) -> dict[int, int]:
        """Return the local port of each container port: the published one, or a free one if a service or its command names it."""
        mounted = [Path(volume["source"]) for entry in self.config["services"].values() for volume in entry.get("volumes", [])]
        texts = [json.dumps(self.config), *(path.read_text() for path in mounted if path.is_file())]
        result = {int(port) for text in texts for port in re.findall(rf"\b{name}:(\d{{2,5}})\b", text)}
        published = {int(entry["target"]): int(entry["published"]) for entry in definition.get("ports", [])}
        return {port: free_port() for port in result} | published

    def volume(self, name: str) -> Path:
        """Return the folder of a named volume, which all services share."""
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def up(self) -> None:
        """Start the services like `docker compose up --wait`."""
        waiting = dict(self.services)
        while waiting:
            name = next(name for name, entry in waiting.items() if not waiting.keys() & (entry.definition.get("depends_on") or {}).keys())
            service = waiting.pop(name)
            for other, how in (service.definition.get("depends_on") or {}).items():
                self.services[other].wait_for(how["condition"])
            service.start()
            self._started.append(service)
        for service in self._started:
            if "test" in service.definition.get("healthcheck", {}):
                service.wait_for("service_healthy")

    def down(self) -> dict[str, int]:
        """Stop the services like `docker compose stop` and return their exit codes."""
        codes = {}
        while self._started:
            service = self._started.pop()
            codes[service.name] = service.stop()
        return codes
