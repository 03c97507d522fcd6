"""Pin the third-party images to digests: the base image in deploy/Dockerfile, and the images in docker-compose.yml.

    python3 deploy/pin_images.py            # reads the manifests with `docker buildx imagetools` and writes NAME:TAG@sha256:...
    python3 deploy/pin_images.py --check    # changes nothing, lists images without a digest and exits with 1 if there are any

This script computes each digest: the SHA-256 of the manifest that the registry sends. The manifest must list images for all
PLATFORMS. Images that are already pinned get the current digest of their tag. The image of the gateway itself does not change.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = ("linux/amd64", "linux/arm64")
IMAGE = r"(?P<image>[a-z0-9][a-z0-9._/-]*(?::\d+/[a-z0-9._/-]+)?:[\w][\w.-]{0,127})(?P<digest>@sha256:[0-9a-f]{64})?"
FILES = {
    "docker-compose.yml": re.compile(rf"^(?P<before>\s+image: *){IMAGE}(?P<after>\s*(?:#.*)?)$", re.MULTILINE),
    "deploy/Dockerfile": re.compile(rf"^(?P<before>ARG BASE_IMAGE=){IMAGE}(?P<after>\s*)$", re.MULTILINE),
}
"""The files, and the lines in them that name an image."""


class PinError(Exception):
    """An image that cannot be pinned, or a file that names no image."""


def fetch_manifest(image: str) -> bytes:
    """Return the manifest of a tag, byte for byte as the registry sends it. Raise PinError if that fails."""
    command = ["docker", "buildx", "imagetools", "inspect", "--raw", image]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PinError(f"{image}: {error}") from None
    if done.returncode:
        raise PinError(f"{image}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def digest_of(image: str, manifest: bytes) -> str:
    """Return the digest of a manifest. Raise PinError if the manifest is not an image index or lacks one of PLATFORMS."""
    try:
        entries = json.loads(manifest)["manifests"]
        platforms = {f"{entry['platform']['os']}/{entry['platform']['architecture']}" for entry in entries if "platform" in entry}
    except (ValueError, LookupError, TypeError):
        raise PinError(f"{image}: the registry did not send an index of images") from None
    missing = [platform for platform in PLATFORMS if platform not in platforms]
    if missing:
        raise PinError(f"{image}: there is no image for {', '.join(missing)}")
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def images(root: Path) -> dict[str, bool]:
    """Return the images that FILES name, and whether each has a digest in all places. Raise PinError if a file names no image."""
    found: dict[str, bool] = {}
    for name, line in FILES.items():
        matches = list(line.finditer((root / name).read_text()))
        if not matches:
            raise PinError(f"{name} names no image")
        for match in matches:
            found[match["image"]] = found.get(match["image"], True) and match["digest"] is not None
    return found


def pin(root: Path, fetch: Callable[[str], bytes] = fetch_manifest) -> dict[str, str]:
    """Pin all images and return their digests. If one image cannot be pinned, change no file and raise PinError."""
    digests = {image: digest_of(image, fetch(image)) for image in images(root)}
    for name, line in FILES.items():
        path = root / name
        path.write_text(line.sub(lambda at: f"{at['before']}{at['image']}@{digests[at['image']]}{at['after']}", path.read_text()))
    return digests


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Pin the third-party images to digests.")
    parser.add_argument("--check", action="store_true", help="change nothing, and fail if an image has no digest")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder of docker-compose.yml")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            unpinned = [image for image, is_pinned in images(options.root).items() if not is_pinned]
            for image in unpinned:
                sys.stderr.write(f"{image} has no digest: run `make pin-images`\n")
            return 1 if unpinned else 0
        for image, digest in pin(options.root).items():
            sys.stdout.write(f"{image}@{digest}\n")
    except (PinError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
