#!/usr/bin/env python3
"""Texts per second with all-MiniLM-L6-v2 in f32: `cargo bench --bench encode` beside sentence-transformers on torch and
beside ONNX Runtime, in rounds taken in turns.

    pip install torch "transformers<5" sentence-transformers onnx onnxruntime
    python3 models/fetch_minilm.py
    cargo bench --bench encode --no-run        # prints the path of the program
    python benches/peers/encode.py --sconce target/release/deps/encode-… --rounds 3 --out benches/results/encode.md

Texts of 32, 128 and 512 tokens, one at a time and 32 at once; tokens, the model and the pooling count. A figure is the
median of seven measurements in a process of its own, the table has medians of rounds. ONNX Runtime gets the graph that
torch exports, with all its optimisations, and its vectors are compared with torch's before it is measured.
"""

import argparse
import datetime
import os
import re
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "all-minilm-l6-v2"
MEASUREMENTS = 7
CASES = [(tokens, count) for tokens in (32, 128, 512) for count in (1, 32)]
LINE = re.compile(r"^ *(\d+) tokens, +(\d+) at once: +([\d.]+) texts/s$", re.MULTILINE)


def torch_encoder(threads):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(MODEL), device="cpu")
    model.max_seq_length = 512
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)


def onnx_encoder(threads):
    import numpy as np
    import onnxruntime
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    class Sentences(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = AutoModel.from_pretrained(MODEL, attn_implementation="eager")

        def forward(self, input_ids, attention_mask, token_type_ids):
            rows = self.model(input_ids, attention_mask, token_type_ids).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(rows.dtype)
            mean = (rows * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=-1)

    names = ["input_ids", "attention_mask", "token_type_ids"]
    sentences = Sentences().eval()
    ids = torch.arange(1000, 1032).reshape(2, 16)
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    file = ROOT / "target" / "minilm.onnx"
    file.parent.mkdir(exist_ok=True)
    axes = {name: {0: "texts", 1: "tokens"} for name in names}
    torch.onnx.export(sentences, inputs, str(file), input_names=names, output_names=["vectors"], dynamic_axes=axes,
                      opset_version=17, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    tokenizer.enable_truncation(512)
    tokenizer.enable_padding()

    def encode(texts):
        encoded = tokenizer.encode_batch(texts)
        columns = ([item.ids for item in encoded], [item.attention_mask for item in encoded], [item.type_ids for item in encoded])
        return session.run(None, {name: np.array(rows, dtype=np.int64) for name, rows in zip(names, columns)})[0]

    texts = ["The weather is lovely today.", "It is so sunny outside, and the candle stands in the hall!"]
    wanted = torch_encoder(threads)(texts)
    apart = abs(encode(texts) - wanted).max()
    if apart > 1e-4:
        sys.exit(f"the exported graph gives other vectors: they are up to {apart} apart")
    return encode


PEERS = {"sentence-transformers": torch_encoder, "onnxruntime": onnx_encoder}


def measure(encode):
    for tokens, count in CASES:
        texts = ["time " * (tokens - 2)] * count
        repeats = 8 if count == 1 else 1

        def rate():
            began = time.perf_counter()
            for _ in range(repeats):
                encode(texts)
            return count * repeats / (time.perf_counter() - began)

        rate()
        median = statistics.median(rate() for _ in range(MEASUREMENTS))
        print(f"{tokens:4} tokens, {count:2} at once: {median:8.1f} texts/s", flush=True)


def run(command):
    """The figures that a program prints, and the load of the machine when it begins."""
    load = os.getloadavg()[0]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {(int(tokens), int(count)): float(rate) for tokens, count, rate in LINE.findall(output)}
    if set(found) != set(CASES):
        sys.exit(f"{command}: not all figures came:\n{output}")
    return found, load


def compare(arguments):
    own = [sys.executable, __file__, "--threads", str(arguments.threads), "--engine"]
    commands = {"sconce": [arguments.sconce], **{name: own + [name] for name in PEERS}}
    rounds, loads = {name: [] for name in commands}, []
    for number in range(arguments.rounds):
        for name, command in commands.items():
            found, load = run(command)
            rounds[name].append(found)
            loads.append(load)
            print(f"round {number + 1}, {name}: {found}", flush=True)
    text = page(rounds, loads, arguments)
    if arguments.out:
        arguments.out.write_text(text)
    print(text)


def page(rounds, loads, arguments):
    """The medians of each case, and how often sconce's is the better peer's."""
    median = lambda name, case: statistics.median(found[case] for found in rounds[name])
    heads = "| tokens | at once | " + " | ".join(rounds) + " | × the best peer |"
    lines = [
        "# Vectors of texts with all-MiniLM-L6-v2, f32", "",
        f"Texts per second: medians of {arguments.rounds} rounds taken in turns, {arguments.threads} threads, "
        f"{datetime.date.today()}. {machine()}.", "",
        f"torch {version('torch')}, sentence-transformers {version('sentence-transformers')}, "
        f"ONNX Runtime {version('onnxruntime')}. The load of the machine before each run was {min(loads):.1f} to {max(loads):.1f}"
        + (": it was shared with other programs." if max(loads) > arguments.threads else ".")
        + " Made by `benches/peers/encode.py`.", "",
        heads, "| --- " * (len(rounds) + 3) + "|",
    ]
    for case in CASES:
        figures = [median(name, case) for name in rounds]
        best = max(figures[1:])
        shown = " | ".join(f"{figure:.1f}" for figure in figures)
        lines.append(f"| {case[0]} | {case[1]} | {shown} | {figures[0] / best:.2f} |")
    return "\n".join(lines) + "\n"


def machine():
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{os.cpu_count()} cores of {names[0] if names else 'an unnamed processor'}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=PEERS, help="measure this one alone, in this process")
    parser.add_argument("--sconce", type=Path, help="the program that `cargo bench --bench encode --no-run` names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="write a page of Markdown")
    arguments = parser.parse_args()
    if arguments.engine:
        measure(PEERS[arguments.engine](arguments.threads))
    elif arguments.sconce:
        compare(arguments)
    else:
        parser.error("name an --engine, or sconce's program with --sconce")


if __name__ == "__main__":
    main()
