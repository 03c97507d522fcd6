"""deploy/pin_images.py finds all lines that name third-party images, and writes digests of the manifests that a registry sends."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import tools

_spec = importlib.util.spec_from_file_location("pin_images", tools.DEPLOY / "pin_images.py")
assert _spec is not None
assert _spec.loader is not None
pin_images: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pin_images)


def entry(architecture: str, **platform: str) -> dict[str, Any]:
    """Return an entry of an image index as in the OCI image specification."""
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:" + hashlib.sha256(architecture.encode()).hexdigest(),
        "size": 2290,
        "platform": {"architecture": architecture, "os": "linux", **platform},
    }


def index(*entries: dict[str, Any]) -> bytes:
    """Return an image index, indented as registries send it."""
    found = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": list(entries)}
    return json.dumps(found, indent=3).encode()


BOTH = index(entry("amd64"), entry("arm", variant="v7"), entry("arm64", variant="v8"), entry("unknown", os="unknown"))
DIGEST = "sha256:" + hashlib.sha256(BOTH).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with copies of the files that name images."""
    (tmp_path / "deploy").mkdir()
    for name in pin_images.FILES:
        shutil.copy(tools.ROOT / name, tmp_path / name)
    return tmp_path


def named(root: Path) -> set[str]:
    """Return the third-party images of the Compose file, read as YAML, and the base image."""
    services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"].values()
    base = (root / "deploy" / "Dockerfile").read_text().partition("ARG BASE_IMAGE=")[2].split()[0]
    return {service["image"] for service in services if "image" in service and "LOCKGATE_IMAGE" not in service["image"]} | {base}


def test_every_third_party_image_is_found(root: Path) -> None:
    found = {image.partition("@")[0] for image in named(root)}
    assert set(pin_images.images(root)) == found
    assert len(found) == 5


def test_images_get_the_digest_of_the_manifest_and_stay_readable(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (root / name).read_text() for name in pin_images.FILES}
    tags = set(pin_images.images(root))
    assert set(pin_images.pin(root, lambda image: BOTH).values()) == {DIGEST}
    assert named(root) == {f"{tag}@{DIGEST}" for tag in tags}
    for name, text in before.items():
        after = (root / name).read_text().replace(f"@{DIGEST}", "")
        assert after == pin_images.FILES[name].sub(lambda at: at["before"] + at["image"] + at["after"], text)
    assert pin_images.main(["--check", "--root", str(root)]) == 0
    newer = index(entry("amd64"), entry("arm64"))
    pin_images.pin(root, lambda image: newer)
    assert named(root) == {f"{tag}@sha256:{hashlib.sha256(newer).hexdigest()}" for tag in tags}


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (index(entry("amd64")), "there is no image for linux/arm64"),
        (index(entry("amd64", os="windows"), entry("arm64")), "there is no image for linux/amd64"),
        (b'{"schemaVersion": 2, "config": {}, "layers": []}', "did not send an index of images"),
        (b"<html>", "did not send an index of images"),
        (b'{"manifests": [{"platform": null}]}', "did not send an index of images"),
    ],
)
def test_no_file_changes_if_an_image_cannot_be_pinned(root: Path, manifest: bytes, reason: str) -> None:
    before = {name: (root / name).read_bytes() for name in pin_images.FILES}
    tags = list(pin_images.images(root))
    with pytest.raises(pin_images.PinError, match=reason):
        pin_images.pin(root, lambda image: manifest if image == tags[-1] else BOTH)
    assert {name: (root / name).read_bytes() for name in pin_images.FILES} == before


def test_the_check_lists_images_without_a_digest(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pin_images.pin(root, lambda image: BOTH)
    path = root / "docker-compose.yml"
    path.write_text(path.read_text().replace(f"redis:8.2@{DIGEST}", "redis:8.2"))
    assert pin_images.main(["--check", "--root", str(root)]) == 1
    assert capsys.readouterr().err == "redis:8.2 has no digest: run `make pin-images`\n"


def test_the_manifest_is_fetched_byte_for_byte(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.json").write_bytes(BOTH)
    docker = tmp_path / "docker"
    docker.write_text(f'#!{sys.executable}\nimport sys\nassert sys.argv[1:5] == ["buildx", "imagetools", "inspect", "--raw"]\n'
                      f'sys.stdout.buffer.write(open({str(tmp_path / "index.json")!r}, "rb").read())\n')  # fmt: skip
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pin_images.main(["--root", str(root)]) == 0
    assert all(image.endswith(f"@{DIGEST}") for image in named(root))


def test_without_docker_the_error_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert pin_images.main(["--root", str(root)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
