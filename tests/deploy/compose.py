"""docker-compose.yml run as plain processes: what an engine would do with images is done with the programs of this machine.

The file is read by the real `docker compose config`. For each service its entrypoint, command, environment, volumes, secrets, ports,
health check, dependencies and grace are those of the file; what a container has and a process has not is translated:

    a path in the container   a file or folder under the stack's folder, wherever it is named: arguments, files, health check
    a published port          the host's port as the file publishes it; every other port a free one
    HOST:PORT of a service    127.0.0.1 and that port
    an image                  its program here: redis-server, prometheus, this checkout's gateway

Users, capabilities, limits and read-only roots need an engine and are not applied; test_compose.py checks that they are written.
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

from tests.deploy import tools
from tests.support.redis import binary, free_port

ROOT = tools.ROOT
LONGEST_WAIT = 240.0
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "LOCKGATE_CACHE", "LOCKGATE_STATE")


def seconds(text: str) -> float:
    """A duration as compose writes it: 1m30s."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text))


def dockerfile(instruction: str) -> list[str]:
    """The words of the last ENTRYPOINT or CMD of deploy/Dockerfile, which is in its JSON form."""
    found = re.findall(rf"^{instruction} (\[.*\])$", (tools.DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    words: list[str] = json.loads(found[-1])
    return words


def variables() -> dict[str, str]:
    """The environment that deploy/Dockerfile gives its image, but for where this machine has its programs and the model."""
    (text,) = re.findall(r"^ENV (PATH=[^\\\n]*(?:\\\n[^\\\n]*)*)$", (tools.DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    found = dict(word.split("=", 1) for word in text.replace("\\\n", " ").split())
    return {name: value for name, value in found.items() if name not in ("PATH", "LOCKGATE_CACHE")}


class Service:
    """One service of the file as a process, its output in a file."""

    def __init__(self, stack: Stack, name: str, given: dict[str, Any]) -> None:
        self.name = name
        self.given = given
        self._stack = stack
        self.log = stack.folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.folder = stack.folder / name
        self.folder.mkdir()
        self.paths = dict(self._mounts())

    def _mounts(self) -> dict[str, Path]:
        """Where the container's paths are here."""
        found = {path.split(":")[0]: self._made(path.split(":")[0]) for path in self.given.get("tmpfs", [])}
        for one in self.given.get("volumes", []):
            if one["type"] == "volume":
                found[one["target"]] = self._stack.volume(one["source"])
            else:
                found[one["target"]] = self._copied(Path(one["source"]), one["target"])
        for one in self.given.get("secrets", []):
            target = one.get("target") or f"/run/secrets/{one['source']}"
            found[target] = Path(self._stack.config["secrets"][one["source"]]["file"])
        return found | self._parents(found)

    def _parents(self, mounts: dict[str, Path]) -> dict[str, Path]:
        """Folders that a command names because volumes are mounted in them: links stand in for the mounts."""
        words = [*(self.given.get("entrypoint") or []), *(self.given.get("command") or [])]
        found = {}
        for word in words:
            inside = [path for path in mounts if path.startswith(f"{word}/")] if word.startswith("/") else []
            if inside:
                found[word] = self._made(word)
            for path in inside:
                (found[word] / path.removeprefix(f"{word}/")).symlink_to(mounts[path])
        return found

    def _made(self, path: str) -> Path:
        folder = self.folder / path.strip("/")
        folder.mkdir(parents=True)
        return folder

    def _copied(self, source: Path, target: str) -> Path:
        """A bind mount: a copy, because the files name container paths and hosts."""
        here = self.folder / target.strip("/")
        here.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, here)
        return here

    def translate_files(self) -> None:
        """Container paths and hosts in the mounted files, once all services are known."""
        for one in self.given.get("volumes", []):
            here = self.paths[one["target"]]
            if one["type"] == "bind":
                for file in [here] if here.is_file() else [path for path in here.rglob("*") if path.is_file()]:
                    file.write_text(self.translated(file.read_text()))

    def translated(self, text: str) -> str:
        """A text of the container as it must read here; in one pass, so that nothing is translated twice."""
        paths = "|".join(re.escape(path) for path in sorted(self.paths, key=len, reverse=True)) or "(?!)"
        own = "|".join(str(port) for port in self._stack.ports[self.name]) or "(?!)"
        path, port = rf"(?<![\w/.])(?P<path>{paths})(?=/|\b)", rf"(?<![\d.])(?P<port>{own})(?![\d.])"
        pattern = rf"{path}|\b(?P<host>[a-z]+):(?P<there>\d+)\b|(?P<any>0\.0\.0\.0)|{port}"
        return re.sub(pattern, self._translate, text)

    def _translate(self, match: re.Match[str]) -> str:
        if match["path"]:
            return str(self.paths[match["path"]])
        if match["host"]:
            port = self._stack.ports.get(match["host"], {}).get(int(match["there"]))
            return match[0] if port is None else f"127.0.0.1:{port}"
        return "127.0.0.1" if match["any"] else str(self._stack.ports[self.name][int(match["port"])])

    def argv(self, words: list[str]) -> list[str]:
        """A command line of the container as one of this machine."""
        found = [self.translated(word) for word in words]
        if found[0] == "/opt/lockgate/bin/python":
            # -I would hide this checkout from the interpreter; -P keeps what matters of it
            found = [sys.executable, *("-P" if word == "-I" else word for word in found[1:])]
        if found[0] == "redis-server":
            found[0] = binary() or tools.debian("redis-server")
        return found

    @property
    def ours(self) -> bool:
        """Whether it runs the image that deploy/Dockerfile makes."""
        return str(self.given.get("image", "")).startswith("lockgate:")

    @property
    def environment(self) -> dict[str, str]:
        """The service's own variables beside what any process needs here."""
        kept = {name: value for name, value in os.environ.items() if name in KEPT}
        image = variables() if self.ours else {}
        own = {name: self.translated(str(value)) for name, value in (image | (self.given.get("environment") or {})).items()}
        return {**kept, "PYTHONPATH": str(ROOT), **own}

    def start(self, *instead: str) -> None:
        """Start it as its image would; `instead` of its command, as `docker compose run` does."""
        entrypoint = self.given.get("entrypoint") or (dockerfile("ENTRYPOINT") if self.ours else [])
        command = self.given.get("command") or (dockerfile("CMD") if self.ours and not self.given.get("entrypoint") else [])
        words = self.argv([*entrypoint, *(instead or command)])
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(words, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def healthy(self) -> bool:
        """Run the health check once."""
        kind, *words = self.given["healthcheck"]["test"]
        words = ["/bin/sh", "-c", self.translated(words[0])] if kind == "CMD-SHELL" else self.argv(words)
        limit = seconds(self.given["healthcheck"]["timeout"])
        try:
            # twice the time: this machine may be busy, and a check that hangs is still found
            done = subprocess.run(words, env=self.environment, cwd=self.folder, capture_output=True, timeout=2 * limit, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def wait_for(self, condition: str) -> None:
        """What compose's depends_on waits for."""
        assert self.process is not None, f"{self.name} was not started"
        if condition == "service_completed_successfully":
            assert self.process.wait(LONGEST_WAIT) == 0, self.output
        if condition != "service_healthy":
            return
        check = self.given["healthcheck"]
        pause = seconds(check.get("start_interval") or check["interval"])
        deadline = time.monotonic() + LONGEST_WAIT
        while not self.healthy():
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"{self.name} did not become healthy:\n{self.output}"
            time.sleep(pause)

    def stop(self) -> int:
        """What `docker compose stop` does; the exit code, -9 when the grace was not enough."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds(self.given.get("stop_grace_period", "10s")))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    @property
    def output(self) -> str:
        """Everything it wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Stack:
    """The services of a compose file, brought up in the order of their dependencies and taken down in reverse."""

    def __init__(self, folder: Path, *files: Path, without: tuple[str, ...] = (), variables: Mapping[str, str] | None = None) -> None:
        """`variables` are what a shell or .env would give; host ports must be among them."""
        self.folder = folder
        command = [tools.compose(), "--project-directory", str(ROOT), *(word for file in files for word in ("-f", str(file)))]
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), **(variables or {})}
        done = tools.run(*command, "config", "--format", "json", env=env)
        assert done.returncode == 0, done.stderr
        self.config: dict[str, Any] = json.loads(done.stdout.replace("$$", "$"))  # config escapes dollars again for its own reading
        wanted = {name: one for name, one in self.config["services"].items() if name not in without}
        self.ports = {name: self._ports(name, one) for name, one in wanted.items()}
        self.services = {name: Service(self, name, one) for name, one in wanted.items()}
        for service in self.services.values():
            service.translate_files()
        self._started: list[Service] = []

    def _ports(self, name: str, given: dict[str, Any]) -> dict[int, int]:
        """Container port to the port here: as published, or a free one where others or its own command name it."""
        mounted = [Path(volume["source"]) for one in self.config["services"].values() for volume in one.get("volumes", [])]
        texts = [json.dumps(self.config), *(path.read_text() for path in mounted if path.is_file())]
        found = {int(port) for text in texts for port in re.findall(rf"\b{name}:(\d{{2,5}})\b", text)}
        published = {int(one["target"]): int(one["published"]) for one in given.get("ports", [])}
        return {port: free_port() for port in found} | published

    def volume(self, name: str) -> Path:
        """A named volume, the same for every service."""
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def up(self) -> None:
        """`docker compose up --wait`."""
        waiting = dict(self.services)
        while waiting:
            name = next(name for name, one in waiting.items() if not waiting.keys() & (one.given.get("depends_on") or {}).keys())
            service = waiting.pop(name)
            for other, how in (service.given.get("depends_on") or {}).items():
                self.services[other].wait_for(how["condition"])
            service.start()
            self._started.append(service)
        for service in self._started:
            if "test" in service.given.get("healthcheck", {}):
                service.wait_for("service_healthy")

    def down(self) -> dict[str, int]:
        """`docker compose stop`; the exit codes."""
        codes = {}
        while self._started:
            service = self._started.pop()
            codes[service.name] = service.stop()
        return codes
