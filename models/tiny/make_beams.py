#!/usr/bin/env python3
"""What transformers finds with beams on some of the folders beside this file: golden_beams.json in each.

    pip install torch transformers==4.57.6
    python models/tiny/make_beams.py [folder ...]

Each run has the prompt's tokens, the arguments of `generate` in the words of LMI's schema, and the texts that were found,
the best one first, as tokens. The same search in double precision has to find the same, so that none was decided by a
margin below what another order of sums may change; a run where it does not is left out and named.
"""

import json
import platform
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
FOLDERS = ["llama", "gpt2", "mistral", "bloom"]

# What is asked of each prompt; `ends` is a token of its greedy continuation that ends texts too.
ASKED = [
    dict(num_beams=2, max_new_tokens=12),
    dict(num_beams=3, max_new_tokens=20, ends=3, n=3),
    dict(num_beams=4, max_new_tokens=40, ends=9, n=4, early_stopping=True),
    dict(num_beams=4, max_new_tokens=24, ends=5, n=2, early_stopping="never"),
    dict(num_beams=4, max_new_tokens=24, ends=5, n=4, length_penalty=2.0, early_stopping="never"),
    dict(num_beams=3, max_new_tokens=24, ends=2, n=3, length_penalty=-1.0),
    dict(num_beams=2, max_new_tokens=16, ends=4, n=2, length_penalty=0.0, min_new_tokens=6),
    dict(num_beams=3, max_new_tokens=30, n=3, repetition_penalty=1.4),
    dict(num_beams=4, max_new_tokens=1, n=4),
]


def search(model, ids, asked, eos):
    found = model.generate(
        torch.tensor([ids]),
        do_sample=False,
        num_beams=asked["num_beams"],
        num_return_sequences=asked.get("n", 1),
        max_new_tokens=asked["max_new_tokens"],
        min_new_tokens=asked.get("min_new_tokens"),
        length_penalty=asked.get("length_penalty", 1.0),
        early_stopping=asked.get("early_stopping", False),
        repetition_penalty=asked.get("repetition_penalty", 1.0),
        eos_token_id=eos,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    lens = (found.beam_indices >= 0).sum(dim=1).tolist()
    return [row[len(ids) : len(ids) + n].tolist() for row, n in zip(found.sequences, lens)]


def make(name):
    folder = HERE / name
    golden = json.loads((folder / "golden.json").read_text())
    load = lambda dtype: AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    model, double = load(torch.float32), load(torch.float64)
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    runs = []
    for run in golden["runs"]:
        greedy = model.generate(torch.tensor([run["ids"]]), do_sample=False, max_new_tokens=16, pad_token_id=0)
        greedy = greedy[0, len(run["ids"]) :].tolist()
        assert greedy == run["greedy"][:16], f"{name}: transformers {transformers.__version__} continues otherwise"
        for asked in ASKED:
            asked = dict(asked)
            stops = [run["greedy"][asked.pop("ends")]] if "ends" in asked else []
            stops = [stop for stop in stops if stop not in own]
            texts = search(model, run["ids"], asked, own + stops)
            if texts != search(double, run["ids"], asked, own + stops):
                print(f"{name}: {asked} after {run['prompt'][:20]!r} is decided by a narrow margin")
                continue
            asked.update(stop_token_ids=stops) if stops else None
            runs.append(dict(prompt=run["prompt"], asked=asked, texts=texts))
    made = {
        "made_by": "models/tiny/make_beams.py",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "runs": runs,
    }
    lines = json.dumps(made, ensure_ascii=False).replace('{"prompt"', '\n{"prompt"')
    (folder / "golden_beams.json").write_text(lines + "\n")
    print(f"{name}: {len(runs)} runs")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for wanted in sys.argv[1:] or FOLDERS:
        make(wanted)
