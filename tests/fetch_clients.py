#!/usr/bin/env python3
"""Puts the clients of tests/NAME/requirements.txt under target/NAME, for their tests.

    python3 tests/fetch_clients.py openai      # OpenAI's own
    python3 tests/fetch_clients.py clients     # LangChain and litellm
    python3 tests/fetch_clients.py metrics     # the parser of Prometheus' client
    python3 tests/fetch_clients.py moto        # an S3 to be asked

They come from the package index that pip uses. What is there is left alone. Needs Python 3.10 or newer with pip.
"""
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(name):
    requirements = HERE / name / "requirements.txt"
    folder = HERE.parent / "target" / name
    stamp = folder / "requirements.txt"
    if stamp.is_file() and stamp.read_text() == requirements.read_text():
        return
    print(f"fetching {', '.join(requirements.read_text().split())} into {folder}", flush=True)
    partial = folder.with_name(f".partial-{name}")
    shutil.rmtree(partial, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
               "--root-user-action=ignore", "--only-binary=:all:", "--target", str(partial), "-r", str(requirements)]
    try:
        subprocess.run(command, check=True)
        shutil.copy(requirements, partial / "requirements.txt")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except (subprocess.CalledProcessError, OSError) as cause:
        sys.exit(f"fetch_clients.py: {name} could not be fetched: {cause}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (HERE / sys.argv[1] / "requirements.txt").is_file():
        sys.exit("usage: fetch_clients.py openai|clients|metrics|moto")
    main(sys.argv[1])
