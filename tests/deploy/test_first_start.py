"""deploy/first_start.py: secrets are created once, separately for each service, with owner-only access, and the key is printed once."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from deploy import first_start
from gateway.config import load as config
from tests.deploy import tools

SCRIPT = tools.DEPLOY / "first_start.py"


def start(folder: Path, *more: str) -> str:
    """Run the script like the service init and return its output."""
    command = [sys.executable, "-I", str(SCRIPT), "--secrets", str(folder / "secrets"), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def alerts_of(folder: Path, webhook: str) -> subprocess.CompletedProcess[str]:
    """Run the script with the configuration of Alertmanager and a webhook."""
    command = [sys.executable, "-I", str(SCRIPT), "--secrets", str(folder / "secrets"), "--alerts", str(tools.DEPLOY / "alertmanager.yml")]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"ALERT_WEBHOOK": webhook})


def read(folder: Path, path: str) -> str:
    """Return the content of a secret."""
    return (folder / "secrets" / path).read_text()


def files(folder: Path) -> dict[str, str]:
    """Return every secret by its path."""
    base = folder / "secrets"
    return {str(path.relative_to(base)): path.read_text() for path in base.rglob("*") if path.is_file()}


def test_printed_key_matches_the_stored_hash(tmp_path: Path) -> None:
    (key,) = set(re.findall(r"\blg-[\w-]{43}\b", start(tmp_path)))
    assert read(tmp_path, "gateway/key.sha256") == "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    assert [path for path, text in files(tmp_path).items() if key in text] == []


def test_admin_key_of_prometheus_matches_the_hash_of_the_gateway(tmp_path: Path) -> None:
    start(tmp_path)
    admin = read(tmp_path, "prometheus/admin-key")
    assert read(tmp_path, "gateway/admin-key.sha256") == "sha256:" + hashlib.sha256(admin.encode()).hexdigest()


def test_redis_admits_only_the_gateway_and_the_health_check(tmp_path: Path) -> None:
    start(tmp_path)
    password = read(tmp_path, "gateway/store-password")
    users = read(tmp_path, "redis/users.acl").splitlines()
    assert users[0] == "user default off"
    assert hashlib.sha256(password.encode()).hexdigest() in users[1]
    assert hashlib.sha256(read(tmp_path, "redis/health-password").encode()).hexdigest() in users[2]
    assert users[2].endswith("-@all +ping")
    assert password not in "".join(users)


def test_gateway_user_has_exactly_the_documented_rights(tmp_path: Path) -> None:
    start(tmp_path)
    listed = (tools.ROOT / "docs" / "stores.md").read_text().partition("user gateway on >PASSWORD ")[2].partition("```")[0].split()
    (granted,) = [line.split() for line in read(tmp_path, "redis/users.acl").splitlines() if line.startswith("user gateway on ")]
    assert granted[4:] == listed
    assert listed[:3] == ["~lockgate:*", "resetchannels", "-@all"]


def test_second_start_changes_nothing_and_prints_no_secret(tmp_path: Path) -> None:
    start(tmp_path)
    before = files(tmp_path)
    output = start(tmp_path)
    assert "are kept" in output
    assert files(tmp_path) == before
    assert [text for text in before.values() if text in output] == []


def test_new_key_replaces_only_the_virtual_key(tmp_path: Path) -> None:
    start(tmp_path)
    before = files(tmp_path)
    (key,) = set(re.findall(r"\blg-[\w-]{43}\b", start(tmp_path, "--new-key")))
    after = files(tmp_path)
    assert {path for path in before if before[path] != after[path]} == {"gateway/key.sha256"}
    assert after["gateway/key.sha256"].endswith(hashlib.sha256(key.encode()).hexdigest())


def test_interrupted_first_start_creates_all_secrets_again(tmp_path: Path) -> None:
    start(tmp_path)
    before = files(tmp_path)
    (tmp_path / "secrets" / "gateway" / "key.sha256").unlink()
    start(tmp_path)
    after = files(tmp_path)
    assert before.keys() == after.keys()
    assert [path for path in before if before[path] == after[path]] == []


def test_each_start_writes_the_receiver_of_alerts(tmp_path: Path) -> None:
    receivers = []
    for webhook in ("", "https://hooks.example.com/a?b=\\\"c", ""):
        assert alerts_of(tmp_path, webhook).returncode == 0
        (receiver,) = yaml.safe_load(read(tmp_path, "alertmanager/alertmanager.yml"))["receivers"]
        receivers.append([one["url"] for one in receiver.get("webhook_configs", [])])
    assert receivers == [[], ["https://hooks.example.com/a?b=\\\"c"], []]


def test_receiver_that_is_not_a_url_is_refused(tmp_path: Path) -> None:
    done = alerts_of(tmp_path, "ftp://x")
    assert (done.returncode, done.stderr) == (1, "ALERT_WEBHOOK must be an http or https URL.\n")


def test_quiet_start_prints_no_secret_and_a_new_key_can_be_printed_later(tmp_path: Path) -> None:
    output = start(tmp_path, "--quiet")
    assert "docker compose run --rm init --new-key" in output
    assert re.findall(r"[\w-]{40,}", output) == []
    assert [text for text in files(tmp_path).values() if text in output] == []
    assert re.findall(r"\blg-[\w-]{43}\b", start(tmp_path, "--new-key"))


def configure(folder: Path, **credentials: str) -> Path:
    """Run the script with the stack's configuration and these variables. Return the path of the written configuration."""
    command = [sys.executable, "-I", str(SCRIPT), "--secrets", str(folder / "secrets"), "--quiet"]
    command += ["--config", str(tools.DEPLOY / "gateway.yaml")]
    subprocess.run(command, env=credentials, capture_output=True, text=True, check=True)
    return folder / "secrets" / "gateway" / "gateway.yaml"


def test_one_variable_adds_a_provider_and_its_removal_removes_the_provider(tmp_path: Path) -> None:
    original = (tools.DEPLOY / "gateway.yaml").read_text()
    for _ in range(2):
        written = configure(tmp_path, OPENAI_API_KEY=" sk-one\n", GROQ_API_KEY="gsk-two", MISTRAL_API_KEY="")
        text = written.read_text().replace("file:/secrets/", f"file:{tmp_path}/secrets/")
        found = config.parse(text.encode(), str(written), environ={})
        assert set(found.providers) == {"local", "openai", "groq"}
        assert {"openai/*", "groq/*", "*"} <= found.models.keys()
        assert [one.reveal() for one in found.providers["openai"].api_key] == ["sk-one"]
        assert len(text.splitlines()) == len(original.splitlines()), "mistakes are reported with the line of the original"
    assert configure(tmp_path).read_text() == original
    assert not (tmp_path / "secrets" / "gateway" / "openai").exists()


def test_each_provider_that_can_be_added_has_its_lines(tmp_path: Path) -> None:
    everything = {f"{name.upper()}_API_KEY": f"key-of-{name}" for name in first_start.PROVIDERS}
    written = configure(tmp_path, **everything)
    found = config.parse(written.read_text().replace("file:/secrets/", f"file:{tmp_path}/secrets/").encode(), str(written), environ={})
    assert set(found.providers) == {"local", *first_start.PROVIDERS}
    assert {name: found.providers[name].type for name in first_start.PROVIDERS} == {name: name for name in first_start.PROVIDERS}
    assert {f"{name}/*" for name in first_start.PROVIDERS} <= found.models.keys()


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    start(tmp_path, str(tmp_path / "data"))
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o400}, modes
    assert os.listdir(tmp_path / "data") == [".lockgate"]


def test_secrets_differ_between_starts(tmp_path: Path) -> None:
    for name in ("one", "other"):
        start(tmp_path / name)
    one, other = files(tmp_path / "one"), files(tmp_path / "other")
    assert [path for path in one if one[path] == other[path]] == []


def test_stack_configuration_is_valid_with_the_created_secrets(tmp_path: Path) -> None:
    start(tmp_path)
    text = (tools.DEPLOY / "gateway.yaml").read_text().replace("file:/secrets/", f"file:{tmp_path}/secrets/")
    found = config.parse(text.encode(), str(tmp_path / "gateway.yaml"), environ={})
    assert [one.reveal() for one in found.store_password] == [read(tmp_path, "gateway/store-password")]
    assert found.store == "redis://gateway@redis:6379/0"
    assert (found.listen.host, found.admin.listen.host) == ("0.0.0.0", "0.0.0.0")
    assert found.admin.key_hash == read(tmp_path, "gateway/admin-key.sha256")
    assert found.keys["first"].hash == read(tmp_path, "gateway/key.sha256")
    assert set(found.providers) == {"local"}
