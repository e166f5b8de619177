#!/usr/bin/env python3
"""Puts LangChain and litellm, with their adapters for OpenAI and SageMaker, under target/clients, for tests/clients.rs.

They come from the package index that pip uses. What is there is left alone. Needs Python 3.10 or newer with pip.
"""
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent.parent / "target" / "clients"


def main():
    requirements = HERE / "requirements.txt"
    stamp = FOLDER / "requirements.txt"
    if stamp.is_file() and stamp.read_text() == requirements.read_text():
        return
    print(f"fetching LangChain and litellm into {FOLDER}", flush=True)
    partial = FOLDER.with_name(".partial-clients")
    shutil.rmtree(partial, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
               "--root-user-action=ignore", "--only-binary=:all:", "--target", str(partial), "-r", str(requirements)]
    try:
        subprocess.run(command, check=True)
        shutil.copy(requirements, partial / "requirements.txt")
        shutil.rmtree(FOLDER, ignore_errors=True)
        partial.rename(FOLDER)
    except (subprocess.CalledProcessError, OSError) as cause:
        sys.exit(f"fetch.py: LangChain and litellm could not be fetched: {cause}")


if __name__ == "__main__":
    main()
