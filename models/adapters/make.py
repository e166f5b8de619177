#!/usr/bin/env python3
"""Makes the folders beside this file: random adapters of the checkpoints in models/tiny, and what PEFT computes with them.

    pip install torch transformers peft safetensors
    python models/adapters/make.py [case ...]

A folder is called as its base model; each folder in it is an adapter as PEFT writes it, plus golden.json and
golden.safetensors, which have the form of those in models/tiny.
"""

import json
import platform
import shutil
import sys
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
TINY = HERE.parent / "tiny"
NEW_TOKENS = 16
NARROWEST = 0.01  # least distance of the best two logits of a greedy step
PROMPTS = [0, 3]  # of those of the base: a short one, and one longer than two blocks of the cache

LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

CASES = {
    "llama/plain": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    "llama/all": dict(r=8, lora_alpha=16, use_rslora=True, target_modules=LLAMA),
    "llama/patterns": dict(
        r=4, lora_alpha=6, target_modules=LLAMA,
        rank_pattern={"q_proj": 2, "layers.0.mlp.down_proj": 3, "^model.layers.1.self_attn.o_proj": 7},
        alpha_pattern={"v_proj": 12, "layers.1.mlp.gate_proj": 5},
    ),
    "llama/one-layer": dict(r=1, lora_alpha=2, target_modules=["down_proj", "o_proj"], layers_to_transform=[1]),
    "gpt2/fused": dict(r=4, lora_alpha=8, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True),
    "phi3/fused": dict(r=5, lora_alpha=8, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    "falcon-40b/groups": dict(r=4, lora_alpha=8, target_modules=["query_key_value", "dense", "dense_4h_to_h"]),
    "gptj/neighbours": dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "fc_in", "fc_out"]),
    "qwen2/biased": dict(r=3, lora_alpha=3, target_modules=["q_proj", "k_proj", "o_proj"]),
}


def config_of(base):
    """Some folders have transformers 5's spelling of rotations, which 4 does not read: it would rotate as by default."""
    config = AutoConfig.from_pretrained(TINY / base)
    written = json.loads((TINY / base / "config.json").read_text()).get("rope_parameters")
    if written:
        assert written["rope_type"] == "default" and written.get("partial_rotary_factor", 1.0) == 1.0, base
        config.rope_theta = written["rope_theta"]
    return config


def fill(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if "lora_" in name:
                tensor.normal_(std=0.4, generator=generator)


def continue_greedily(model, ids):
    """Tokens and the least distance of the best two logits."""
    ids, narrowest = ids.clone(), float("inf")
    first = len(ids)
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            best = model(ids[None], use_cache=False).logits[0, -1].float().topk(2)
            narrowest = min(narrowest, (best.values[0] - best.values[1]).item())
            ids = torch.cat([ids, best.indices[:1]])
    return ids[first:], narrowest


def ends_of(model):
    """The tokens that end a text."""
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [ends]


def make(case, keys):
    base, name = case.split("/")
    folder = HERE / base / name
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = AutoTokenizer.from_pretrained(TINY / base)
    prompts = load_file(TINY / base / "golden.safetensors")
    texts = json.loads((TINY / base / "golden.json").read_text())["runs"]
    for seed in range(1000):
        model = AutoModelForCausalLM.from_pretrained(TINY / base, config=config_of(base), dtype=torch.float32).eval()
        adapted = peft.get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **keys)).eval()
        fill(adapted, seed)
        found = [continue_greedily(adapted, prompts[f"prompt.{at}"]) for at in PROMPTS]
        ends = [ids for ids in found if any(token in ends_of(model) for token in ids[0].tolist())]
        if not ends and min(narrowest for _, narrowest in found) > NARROWEST:
            break
    else:
        sys.exit(f"{case}: no seed decides clearly")
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    config["target_modules"] = sorted(config["target_modules"])
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors, runs = {}, []
    for at, (prompt, (greedy, _)) in enumerate(zip(PROMPTS, found)):
        ids = prompts[f"prompt.{prompt}"]
        with torch.no_grad():
            logits = adapted(ids[None], use_cache=False).logits[0].float()
        tensors |= {f"prompt.{at}": ids, f"logits.{at}": logits.contiguous(), f"greedy.{at}": greedy}
        text = tokenizer.decode(greedy, skip_special_tokens=True)
        runs.append({"prompt": texts[prompt]["prompt"], "ids": ids.tolist(), "greedy": greedy.tolist(), "text": text})
    save_file(tensors, folder / "golden.safetensors")
    versions = {
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "peft": peft.__version__,
    }
    golden = {"made_by": "models/adapters/make.py", "versions": versions, "seed": seed, "runs": runs}
    (folder / "golden.json").write_text(json.dumps(golden, indent=2, ensure_ascii=False) + "\n")
    print(case, "seed", seed)


for case, keys in CASES.items():
    if not sys.argv[1:] or case in sys.argv[1:]:
        make(case, keys)
