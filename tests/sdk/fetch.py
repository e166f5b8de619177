#!/usr/bin/env python3
"""Puts three releases of the SageMaker Python SDK under target/sdk, for the tests in tests/sdk.rs.

Everything comes from the package index that pip uses. What the releases share (requirements.txt)
is installed once; each release goes into a folder of its own, without its dependencies: they
contradict each other, and what the predictors import works with one set. Needs Python 3.10 to 3.13
with pip, no venv. What is there is left alone.
"""
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent.parent / "target" / "sdk"
# The generations of sagemaker.djl_inference: data_type, dtype, environment only.
RELEASES = ["2.150.0", "2.223.0", "2.257.7"]
SHARED = "shared"


def install(name, arguments):
    """Installs into a folder that appears only when it is complete."""
    folder, partial = FOLDER / name, FOLDER / f".partial-{name}"
    shutil.rmtree(partial, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "--no-input", "--root-user-action=ignore",
               "--target", str(partial), *arguments]
    subprocess.run(command, check=True)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def main():
    requirements = HERE / "requirements.txt"
    wanted = requirements.read_text()
    stamp = FOLDER / SHARED / "requirements.txt"
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        if not stamp.is_file() or stamp.read_text() != wanted:
            print(f"fetching what the SageMaker SDK needs into {FOLDER} (250 MB)", flush=True)
            # A compiler is more than these tests may ask for.
            install(SHARED, ["--only-binary=:all:", "-r", str(requirements)])
            stamp.write_text(wanted)
        for release in RELEASES:
            if not (FOLDER / release).is_dir():
                print(f"fetching sagemaker {release}", flush=True)
                install(release, ["--no-deps", f"sagemaker=={release}"])
    except (subprocess.CalledProcessError, OSError) as cause:
        sys.exit(f"fetch.py: the SageMaker SDK could not be fetched: {cause}")


if __name__ == "__main__":
    main()
