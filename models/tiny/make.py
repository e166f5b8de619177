#!/usr/bin/env python3
"""Makes the folders beside this file: tiny random checkpoints and what transformers computes with them.

    pip install torch transformers tokenizers safetensors
    python models/tiny/make.py [case ...]
    python models/tiny/make.py --bin case ...      (only the case's weights again, as torch files in tests/fixtures/bins)

Every folder is an ordinary Hugging Face checkpoint plus
  golden.safetensors  prompt.N [tokens] i64, logits.N [tokens, vocab] f32, greedy.N [new] i64
  golden.json         the prompts and continuations as text, and the versions that computed them
Everything is seeded: running it again with the same versions changes no byte. A seed is taken only when
greedy decoding is varied, avoids special tokens and never decides by a narrow margin; golden.json says which it was.
Cases without a seed begin to search at 0, the others at their seed.
"""

import json
import platform
import shutil
import sys
from pathlib import Path

import safetensors
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM

import families

HERE = Path(__file__).parent
NEW_TOKENS = 24  # greedy tokens kept of every prompt
NARROWEST = 0.01  # least distance of the best two logits of a greedy step; the logits' tolerance is 1e-4

CORPUS = """
A candle stands in its sconce on the wall of the hall. When the evening comes, somebody lights the candle,
and the light of the candle falls on the wall, on the floor and on the faces of those who sit in the hall.
The model reads the tokens of the prompt and then it writes the next token, and the next, and the next.
In the morning the wax is cold. They take the candle out of the sconce, and they put another one in its place.
"What is the time?" she asked. "It's ten past nine, and we don't know where they're going," he answered.
"""

PROMPTS = [
    "The candle",
    "What is the time?",
    "Grüße, 世界 🕯 — 42.",
    "When the evening comes, somebody lights the candle in the hall, and they tell of a king who read by "
    "that light until the wax was gone. Nobody asked.",
]


def llama(**keys):
    return transformers.LlamaConfig(bos_token_id=1, eos_token_id=2, **keys)


def gpt2(**keys):
    return transformers.GPT2Config(bos_token_id=0, eos_token_id=0, **keys)


def neox(**keys):
    return transformers.GPTNeoXConfig(bos_token_id=0, eos_token_id=0, **keys)


# Sizes are odd on purpose: heads that are no power of two, widths and vocabularies that are no multiple of 8.
CASES = {
    "llama": dict(
        seed=254,
        config=llama(
            vocab_size=307, hidden_size=36, intermediate_size=50, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, head_dim=8, max_position_embeddings=256, rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        ),
        specials=["<unk>", "<s>", "</s>"],
        std=0.35,
        bos="<s>",
        # As written before transformers 5, and two end tokens in generation_config.json.
        rewrite=lambda c: c.pop("rope_parameters") and c.update(rope_theta=5000.0, rope_scaling=None, torch_dtype=c.pop("dtype")),
        eos=[2, 306],
    ),
    "llama-bias-tied": dict(
        seed=24,
        config=llama(
            vocab_size=301, hidden_size=30, intermediate_size=46, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=1, head_dim=10, max_position_embeddings=256, attention_bias=True, mlp_bias=True,
            tie_word_embeddings=True, hidden_act="gelu",
            rope_parameters={
                "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
        ),
        specials=["<unk>", "<s>", "</s>"],
        std=0.35,
        bos="<s>",
    ),
    "gpt2": dict(
        seed=704,
        config=gpt2(vocab_size=303, n_embd=30, n_layer=2, n_head=6, n_positions=160),
        specials=["<|endoftext|>"],
        std=0.35,
        rename={"transformer.": ""},  # as in the published file
    ),
    "gpt2-inverse-layer": dict(
        seed=316,
        config=gpt2(
            vocab_size=303, n_embd=26, n_layer=3, n_head=2, n_inner=75, n_positions=160, activation_function="relu",
            scale_attn_by_inverse_layer_idx=True, scale_attn_weights=False, tie_word_embeddings=False,
        ),
        specials=["<|endoftext|>"],
        std=0.3,
    ),
    "gpt_neox": dict(
        seed=87,
        config=neox(
            vocab_size=310, hidden_size=30, intermediate_size=62, num_hidden_layers=2, num_attention_heads=3,
            max_position_embeddings=256,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.4},
        ),
        specials=["<|endoftext|>", "<|padding|>"],
        std=0.35,
    ),
    "gpt_neox-serial": dict(
        seed=180,
        config=neox(
            vocab_size=305, hidden_size=36, intermediate_size=45, num_hidden_layers=2, num_attention_heads=6,
            max_position_embeddings=256, attention_bias=False, use_parallel_residual=False, hidden_act="gelu_new",
            rope_parameters={
                "rope_type": "linear", "factor": 2.0, "rope_theta": 2000.0, "partial_rotary_factor": 1.0,
            },
        ),
        specials=["<|endoftext|>", "<|padding|>"],
        std=0.35,
        # As written before transformers 5.
        rewrite=lambda c: c.pop("rope_parameters")
        and c.update(rotary_pct=1.0, rotary_emb_base=2000, rope_scaling={"type": "linear", "factor": 2.0}),
    ),
}


CASES |= families.CASES


def make_tokenizer(folder, specials, bos):
    """A byte-level BPE of 299 entries, trained on CORPUS; the special tokens come first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS.strip().splitlines(),
        trainers.BpeTrainer(
            vocab_size=299,
            special_tokens=specials,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if bos:
        one = processors.TemplateProcessing(f"{bos} $A", f"{bos} $A {bos} $B", [(bos, tokenizer.token_to_id(bos))])
        tokenizer.post_processor = processors.Sequence([tokenizer.post_processor, one])
    tokenizer.save(str(folder / "tokenizer.json"))
    eos = specials[-1] if bos else specials[0]
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": bool(bos),
            "bos_token": bos or eos,
            "clean_up_tokenization_spaces": False,
            "eos_token": eos,
            "model_max_length": 160,
            "tokenizer_class": "PreTrainedTokenizerFast",
            **({"unk_token": "<unk>"} if bos else {}),
        },
    )
    return tokenizer


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def fill(model, seed, std):
    """Random weights of a scale at which the layers matter: norms near 1, everything else normal."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            norm = weight.dim() == 1 and name.endswith("weight")
            weight.copy_(1.0 + 0.2 * noise if norm else std * noise)


@torch.no_grad()
def continue_greedily(model, ids):
    """Logits of all prompt positions, NEW_TOKENS greedy tokens, and the narrowest margin of a choice."""
    all_ids, prompt_logits, margin = list(ids), None, float("inf")
    while len(all_ids) < len(ids) + NEW_TOKENS:
        logits = model(torch.tensor([all_ids]), use_cache=False).logits[0].float()
        prompt_logits = logits if prompt_logits is None else prompt_logits
        best = logits[-1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        all_ids.append(best.indices[0].item())
    return prompt_logits, all_ids[len(ids) :], margin


def continue_all(model, prompts, first, vocab, narrowest):
    """All prompts continued, or None as soon as one is dull, close or leaves the ids from `first` to `vocab`."""
    runs = []
    for ids in prompts:
        logits, greedy, margin = continue_greedily(model, ids)
        if margin < narrowest or len(set(greedy)) < 8 or not all(first <= t < vocab for t in greedy):
            return None
        runs.append((logits, greedy))
    return runs


def save_checkpoint(folder, model, case):
    """What `save_pretrained` writes, less its notes, with the spellings and names that the case wants."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    case.get("rewrite", lambda c: None)(config)
    write_json(folder / "config.json", config)
    eos = case.get("eos", model.config.eos_token_id)
    write_json(folder / "generation_config.json", {"bos_token_id": model.config.bos_token_id, "eos_token_id": eos})
    file = folder / "model.safetensors"
    for old, new in case.get("rename", {}).items():
        weights = {new + k.removeprefix(old) if k.startswith(old) else k: v for k, v in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})


def save_bins(folder):
    """The same weights as torch writes them, in one file and in two shards with an index."""
    weights = load_file(folder / "model.safetensors")
    target = HERE.parent.parent / "tests" / "fixtures" / "bins" / folder.name
    for kind in ("one", "sharded"):
        shutil.rmtree(target / kind, ignore_errors=True)
        (target / kind).mkdir(parents=True)
    torch.save(weights, target / "one" / "pytorch_model.bin")
    names = sorted(weights)
    index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": {}}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: weights[name] for name in part}, target / "sharded" / file)
        index["weight_map"] |= dict.fromkeys(part, file)
    write_json(target / "sharded" / "pytorch_model.bin.index.json", index)


def make(name, case):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tokenizer = make_tokenizer(folder, case["specials"], case.get("bos"))
    prompts = [tokenizer.encode(text).ids for text in PROMPTS]
    attention = case.get("attention", "eager")
    case["config"]._attn_implementation = attention
    # The fused kernel for experts wants rows of whole vectors, which odd sizes do not have.
    case["config"]._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(case["config"], dtype=torch.float32).eval()
    for seed in range(case.get("seed", 0), 10_000):
        fill(model, seed, case["std"])
        ids = len(case["specials"]), tokenizer.get_vocab_size()
        runs = continue_all(model, prompts, *ids, case.get("narrowest", NARROWEST))
        if runs:
            break
    else:
        sys.exit(f"{name}: no seed from there on decodes clearly; change the shape or the scale")
    save_checkpoint(folder, model, case)

    # What was saved is what was computed: read it back and compare.
    again, report = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation=attention, experts_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    for ids, (logits, greedy) in zip(prompts, runs):
        found = continue_greedily(again.eval(), ids)
        assert torch.equal(found[0], logits) and found[1] == greedy, f"{name}: the saved checkpoint differs"

    tensors = {}
    for i, (ids, (logits, greedy)) in enumerate(zip(prompts, runs)):
        tensors[f"prompt.{i}"] = torch.tensor(ids)
        tensors[f"logits.{i}"] = logits.contiguous()
        tensors[f"greedy.{i}"] = torch.tensor(greedy)
    save_file(tensors, folder / "golden.safetensors")
    write_json(
        folder / "golden.json",
        {
            "made_by": "models/tiny/make.py",
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "tokenizers": tokenizers.__version__,
                "safetensors": safetensors.__version__,
            },
            "seed": seed,
            "runs": [
                {"prompt": text, "ids": ids, "greedy": greedy, "text": tokenizer.decode(greedy)}
                for text, ids, (_, greedy) in zip(PROMPTS, prompts, runs)
            ],
        },
    )
    size = sum(file.chmod(0o644) or file.stat().st_size for file in folder.iterdir()) // 1024
    print(f"{name}: seed {seed}, prompts of {[len(ids) for ids in prompts]} tokens, {size} KiB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if sys.argv[1:2] == ["--bin"]:
        for wanted in sys.argv[2:]:
            save_bins(HERE / wanted)
    else:
        for wanted in sys.argv[1:] or CASES:
            make(wanted, CASES[wanted])
