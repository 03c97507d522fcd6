"""deploy/Dockerfile and .dockerignore: the required and the forbidden content of a hardened image."""

from __future__ import annotations

import json
import re
import tomllib

import yaml

from tests.deploy import tools
from tests.support.each import each

TEXT = (tools.DEPLOY / "Dockerfile").read_text()
JOINED = re.sub(r"\\\n\s*", " ", TEXT)
STAGES = re.split(r"^(?=FROM )", JOINED, flags=re.MULTILINE)
FINAL = STAGES[-1]


def instructions(name: str, text: str = JOINED) -> list[str]:
    """Return the arguments of all instructions of one name."""
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def test_image_is_built_in_stages_from_one_replaceable_base() -> None:
    assert instructions("FROM") == ["${BASE_IMAGE} AS build", "${BASE_IMAGE}"]
    (base,) = instructions("ARG", STAGES[0])
    assert re.fullmatch(r"BASE_IMAGE=python:\d+\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)
    assert "by digest" in STAGES[0]


def test_packages_are_hash_locked_wheels_and_no_index_is_named() -> None:
    (locked,) = [line for line in instructions("RUN") if "requirements/image.txt" in line]
    for option in ("--require-hashes", "--no-deps", "--only-binary :all:"):
        assert option in locked
    installs = [line for line in instructions("RUN") if "pip install" in line and line != locked]
    assert [line.count("pip install --") == line.count("--no-index --find-links /wheels") == 2 for line in installs] == [True]
    assert re.findall(r"https?://(?!127\.0\.0\.1)\S+|--index-url|--extra-index|--trusted-host", TEXT) == []


def test_extras_are_a_build_argument_and_every_extra_is_locked() -> None:
    (default,) = instructions("ARG", STAGES[1])
    extras = tomllib.loads((tools.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(default.removeprefix("EXTRAS=").split(",")) == {"local", "top", "otel", "jwt"} <= extras.keys()
    assert '".${EXTRAS:+[$EXTRAS]}"' in STAGES[1]
    make = (tools.ROOT / "Makefile").read_text()
    (locked,) = re.findall(r"call compile,image,(.*)\)", make)
    assert set(re.findall(r"--extra (\w+)", locked)) == extras.keys() - {"dev"}


def test_weights_are_downloaded_at_build_time_to_the_cache_folder() -> None:
    (directory,) = re.findall(r"lockgate pull --directory (\S+)", STAGES[1])
    assert f"LOCKGATE_CACHE={directory}" in FINAL
    assert directory.startswith("/opt/lockgate/")


def test_image_runs_as_a_numeric_user_without_ownership_of_the_program() -> None:
    assert instructions("USER", FINAL) == ["65532:65532"]
    assert FINAL.index("COPY --from=build") < FINAL.index("USER ")
    assert "--chown" not in FINAL
    assert "-perm /6000 -exec chmod a-s" in FINAL


def test_new_volumes_of_the_stack_belong_to_the_user_of_the_image() -> None:
    """A new volume gets the owner of the image's folder at its mount point; where the image has none, root owns the volume."""
    services = yaml.safe_load((tools.ROOT / "docker-compose.yml").read_text())["services"]
    mounts = [entry.split(":") for name in ("init", "gateway") for entry in services[name]["volumes"] if not entry.startswith(".")]
    (made,) = re.findall(r"install -d -o 65532 -g 65532 -m 0700 ([^&\n]+)", FINAL)
    assert {target for _, target, *_ in mounts} <= set(made.split())


def test_package_installers_are_removed() -> None:
    assert instructions("COPY", FINAL)[0].startswith("--from=build /opt/lockgate ")
    assert "pip uninstall --yes setuptools pip" in STAGES[1]
    (prepared,) = [line for line in instructions("RUN", FINAL) if "rm -rf /usr/local/bin/pip*" in line]
    assert "/usr/local/lib/python3*/site-packages/pip*" in prepared, "a base may bring its own"


def test_arguments_and_variables_contain_no_secret() -> None:
    named = [*instructions("ARG"), *instructions("ENV")]
    assert [text for text in named if re.search(r"(?i)key|token|passw|secret|credential", text)] == []
    assert set(re.findall(r"--mount=(\S+)", JOINED)) == {"type=secret,id=pip_conf,target=/etc/pip.conf"}


def test_python_writes_no_bytecode_and_ignores_the_working_directory() -> None:
    for variable in ("PYTHONDONTWRITEBYTECODE=1", "PYTHONSAFEPATH=1"):
        assert variable in FINAL
    assert json.loads(instructions("ENTRYPOINT", FINAL)[0])[1] == "-I"


def test_gateway_is_the_first_process_and_receives_the_stop_signal() -> None:
    assert json.loads(instructions("ENTRYPOINT", FINAL)[0]) == ["/opt/lockgate/bin/python", "-I", "-m", "gateway"]
    assert json.loads(instructions("CMD", FINAL)[0]) == ["serve"]
    assert instructions("STOPSIGNAL", FINAL) == ["SIGTERM"]


def test_health_check_tests_liveness_with_python_only() -> None:
    (check,) = instructions("HEALTHCHECK", FINAL)
    words = json.loads(check[check.index("[") :])
    assert words[0] == "/opt/lockgate/bin/python"
    assert "/healthz" in words[-1]
    assert re.findall(r"readyz|curl|wget", check) == []
    compile(words[-1], "healthcheck", "exec")


@each("name", [".git", ".venv", ".tools", "**/.env", "**/*.pem", "**/*.key", "**/*.gguf"])
def test_private_files_are_not_sent_to_the_builder(name: str) -> None:
    lines = (tools.ROOT / ".dockerignore").read_text().splitlines()
    assert lines.index("*") < lines.index(name)
    allowed = [line for line in lines if line.startswith("!")]
    assert lines.index(name) > max(lines.index(line) for line in allowed), "a later ! would let it in again"


def test_copied_files_are_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (tools.ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {source for line in instructions("COPY") if not line.startswith("--from") for source in line.split()[:-1]}
    assert {source for source in sources if not {source, source.partition("/")[0]} & sent} == set()
    assert [source for source in sources if not (tools.ROOT / source).exists()] == []
