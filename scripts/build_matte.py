"""Write `data/selfie_segmentation.tflite`, MediaPipe's segmentation model, from its npm package.

    python scripts/build_matte.py

`npm pack` gets the package; the model for square images is taken out of it unchanged, and its checksum is compared
with the one that `raflib.tracking.matte` expects. A few seconds.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

from raflib import runs
from raflib.errors import RafError
from raflib.tracking.matte import MODEL, MODEL_SHA256

PACKAGE = "@mediapipe/selfie_segmentation@0.1.1675465747"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        path = write_model(archive, runs.data_root() / MODEL)
    print(f"{path}: {path.stat().st_size} bytes")


def write_model(archive: Path, path: Path) -> Path:
    """Write the model inside of the package `archive` to `path`; RafError if it is not the expected one."""
    with tarfile.open(archive) as package:
        model = package.extractfile(f"package/{MODEL}").read()
    if (found := hashlib.sha256(model).hexdigest()) != MODEL_SHA256:
        raise RafError(f"{archive}: holds another {MODEL} (sha256 {found}, expected {MODEL_SHA256}); use {PACKAGE}")
    with runs.atomic_write(path) as temporary:
        temporary.write_bytes(model)
    return path


if __name__ == "__main__":
    main()
