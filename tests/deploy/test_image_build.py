"""Build deploy/Dockerfile with buildah in a chroot, start it, and let the local model answer a chat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.ports import free_port
from tests.deploy import tools
from tests.running import UNCLEAN, Figure

pytestmark = [pytest.mark.prove, pytest.mark.timeout(1800)]
SCRIPT = Path(__file__).with_name("build_image.sh")
IMAGE = "localhost/lockgate:built"
ROOT_ONLY = "building the image without a container engine needs root: run `sudo make prove`, or read deploy/README.md"


class Built:
    """The built image, its configuration, and its files mounted as a folder."""

    def __init__(self, folder: Path) -> None:
        self._env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "BUILDAH_ISOLATION": "chroot"}
        self.folder = folder
        began = time.monotonic()
        base = tools.TOOLS / "debian-base.tar"
        done = subprocess.run(
            [SCRIPT, folder], env={**self._env, "LOCKGATE_BASE_TAR": str(base)}, capture_output=True, text=True, timeout=1500, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.seconds = time.monotonic() - began
        inspected = json.loads(self.buildah("inspect", "--type", "image", IMAGE))
        self.config: dict[str, Any] = inspected["Docker"]["config"]
        self.container = self.buildah("from", "--pull-never", IMAGE).strip()
        self.files = Path(self.buildah("mount", self.container).strip())

    def buildah(self, *words: str) -> str:
        """Run buildah with the storage of this build."""
        done = subprocess.run([tools.debian("buildah"), *words], env=self._env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, log: Path, *more: str) -> subprocess.Popen[bytes]:
        """Start the container with the image's entrypoint, command, user and environment. `more` are options of buildah."""
        words = [*self.config["Entrypoint"], *self.config["Cmd"]]
        command = [tools.debian("buildah"), "run", *more, self.container, "--", *words]
        with log.open("wb") as out:
            return subprocess.Popen(command, env=self._env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    assert os.geteuid() == 0, ROOT_ONLY
    found = Built(tmp_path_factory.mktemp("image"))
    yield found
    found.buildah("umount", found.container)
    found.buildah("rm", found.container)
    found.buildah("rmi", "--all", "--force")


def own(process: subprocess.Popen[bytes]) -> int:
    """Return the pid of the container's first process, which runs the image's Python."""
    parents = [process.pid]
    for parent in parents:
        threads = Path(f"/proc/{parent}/task").iterdir()
        for child in (child for thread in threads for child in (thread / "children").read_text().split()):
            parents.append(int(child))
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"/opt/lockgate/bin/python\0"):
                return int(child)
    raise AssertionError(f"nothing runs in the container, only {parents}")


def wait_ready(admin_port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the gateway is ready."""
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{admin_port}/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def ask(port: int) -> int:
    """Chat with the local model, check the answer and return the status."""
    body = {"model": "local", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=120, trust_env=False)
    assert "Paris" in answer.json()["choices"][0]["message"]["content"], answer.text
    return answer.status_code


def test_container_answers_from_the_local_model_and_ends_on_sigterm(built: Built, tmp_path: Path, figure: Figure) -> None:
    figure("image build", built.seconds, "s")
    port, admin_port = free_port(), free_port()
    began = time.monotonic()
    log = tmp_path / "container.log"
    process = built.start(log, "--env", f"PORT={port}", "--env", f"ADMIN_PORT={admin_port}")
    try:
        wait_ready(admin_port, process, log)
        figure("container to a loaded model", time.monotonic() - began, "s")
        assert ask(port) == 200
        gateway = own(process)
        status = Path(f"/proc/{gateway}/status").read_text()
        assert "\nUid:\t65532\t65532" in status
        check = [word.replace(":8081/", f":{admin_port}/") for word in built.config["Healthcheck"]["Test"]]
        assert check[0] == "CMD"
        built.buildah("run", built.container, "--", *check[1:])
        os.kill(gateway, signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.kill(own(process), signal.SIGKILL)  # buildah ends with its child; killing buildah would leave the child running
            process.wait()
    output = log.read_text()
    assert [sign for sign in UNCLEAN if sign in output] == [], output


# $1 the image's files, $2 a folder for the state, then the command: the hardening of the stack and the manifests, done with mounts
HARDENED = """
set -eu
root=$1 state=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root" && mount -o remount,bind,ro "$root"
mount -t tmpfs -o noexec,nosuid,nodev,size=64m,mode=1777 tmpfs "$root/tmp"
mount --bind "$state" "$root/var/lib/lockgate"
mount --bind /dev "$root/dev"
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid chroot --userspec=65532:65532 --groups= "$root" "$@"
"""


def test_image_runs_with_a_read_only_root_and_without_capabilities(built: Built, tmp_path: Path) -> None:
    """The image is started as docker-compose.yml and the manifests start it: only its state and a noexec /tmp are writable."""
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65532, 65532)
    variables = {**dict(pair.split("=", 1) for pair in built.config["Env"]), "PORT": str(free_port()), "ADMIN_PORT": str(free_port())}
    words = [*built.config["Entrypoint"], *built.config["Cmd"]]
    log = tmp_path / "hardened.log"
    with log.open("wb") as out:
        command = [tools.debian("unshare"), "--mount", "/bin/sh", "-c", HARDENED, "sh", str(built.files), str(state), *words]
        process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/")
    try:
        wait_ready(int(variables["ADMIN_PORT"]), process, log)
        assert ask(int(variables["PORT"])) == 200
        status = Path(f"/proc/{process.pid}/status").read_text()
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert (facts["Uid"].split()[0], facts["CapEff"], facts["NoNewPrivs"]) == ("65532", "0" * 16, "1")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    output = log.read_text()
    assert [sign for sign in (*UNCLEAN, "is not writable") if sign in output] == [], output
    assert list(state.rglob("*.journal"))
    with pytest.raises(AssertionError):
        built.buildah("run", built.container, "--", "/opt/lockgate/bin/python", "-c", "open('/opt/lockgate/new', 'w')")


def test_image_declares_user_entrypoint_and_stop_signal(built: Built) -> None:
    config = built.config
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/opt/lockgate/bin/python", "-I", "-m", "gateway"]
    assert config["StopSignal"] == "SIGTERM"
    variables = dict(pair.split("=", 1) for pair in config["Env"])
    assert variables["PYTHONDONTWRITEBYTECODE"] == variables["PYTHONSAFEPATH"] == "1"
    assert [name for name in variables if name.startswith("PIP_")] == []


def test_user_can_change_no_file_of_the_program(built: Built) -> None:
    paths = [built.files / "opt", *(built.files / "opt").rglob("*"), *(built.files / "etc/lockgate").rglob("*")]
    assert len(paths) > 1000
    changeable = [path for path in paths if not path.is_symlink() and (path.stat().st_uid != 0 or path.stat().st_mode & 0o002)]
    assert changeable == []


def test_image_has_no_setuid_files_and_no_package_installers(built: Built) -> None:
    files = [path for path in built.files.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if path.stat().st_mode & 0o6000] == []
    assert [path for path in (built.files / "opt/lockgate/bin").iterdir() if path.name.startswith(("pip", "easy_install"))] == []
    assert not list((built.files / "opt/lockgate").glob("lib/python3*/site-packages/pip"))
    assert not [path for base in ("usr", "usr/local") for path in (built.files / base).glob("lib/python3*/ensurepip")]


def test_image_contains_no_pip_configuration(built: Built) -> None:
    assert not (built.files / "etc/pip.conf").exists()
    assert not (built.files / "src").exists()
    assert "pip.conf" not in {path.name for path in (built.files / "opt").rglob("*")}


def test_image_without_engine_and_model_is_small(built: Built, figure: Figure) -> None:
    def megabytes(folder: Path) -> float:
        return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6

    program = megabytes(built.files / "opt/lockgate")
    model = megabytes(built.files / "opt/lockgate/models")
    (engine,) = (built.files / "opt/lockgate").glob("lib/python3*/site-packages/xllamacpp")
    figure("gateway in the image", program - model - megabytes(engine), "MB")
    figure("engine", megabytes(engine), "MB")
    figure("model", model, "MB")
    assert program - model - megabytes(engine) < 200
