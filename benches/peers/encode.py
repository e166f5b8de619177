#!/usr/bin/env python3
"""Texts per second of sentence-transformers with all-MiniLM-L6-v2, for comparison with `cargo bench --bench encode`.

    pip install torch "transformers<5" sentence-transformers
    python3 models/fetch_minilm.py
    python benches/peers/encode.py [threads]

Texts of 32, 128 and 512 tokens, one at a time and 32 at once; tokens, the model and the pooling count. Medians of rounds.
"""

import sys
import time
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

ROUNDS = 7
MODEL = Path(__file__).resolve().parents[2] / "models" / "all-minilm-l6-v2"

if len(sys.argv) > 1:
    torch.set_num_threads(int(sys.argv[1]))
model = SentenceTransformer(str(MODEL), device="cpu")
model.max_seq_length = 512


def rate(tokens, count):
    text = "time " * (tokens - 2)
    repeats = 8 if count == 1 else 1
    began = time.perf_counter()
    for _ in range(repeats):
        model.encode([text] * count, batch_size=32, show_progress_bar=False)
    return count * repeats / (time.perf_counter() - began)


for tokens in (32, 128, 512):
    for count in (1, 32):
        rate(tokens, count)
        rates = sorted(rate(tokens, count) for _ in range(ROUNDS))
        print(f"{tokens:4} tokens, {count:2} at once: {rates[ROUNDS // 2]:8.1f} texts/s", flush=True)
