#!/usr/bin/env python3
"""Everything that only a machine with GPUs can tell, in one go: numbers, ranks, speed. It needs a GPU, Python with torch,
transformers and safetensors, and two programs that `make cuda` and `make cuda-tests` build elsewhere; neither cargo nor
network.

    python3 benches/gpu/check.py --sconce target/cuda/sconce --tests target/cuda/tests --out benches/results

1. The goldens of models/tiny on the GPU, in f32, f16 and bf16; two ranks over NCCL where there are two GPUs, or on one
   with an NCCL of 2.30 or later (`NCCL_MULTI_RANK_GPU_ENABLE=1`).
2. Checkpoints of real shapes with random weights, made here: Llama 3.1 8B, GPT-J 6B, GPT-NeoX 20B.
3. For each: from exec to ready, prefill, decode with 1, 8 and 64 streams, beside the same without recorded steps
   (`option.enforce_eager`), beside transformers and beside what reading the weights allows at the measured bandwidth; and
   the memory that was planned and measured.

Writes DATE-GPU.md. `--shapes tiny` checks the script itself with a model of some megabytes.
"""
import argparse
import asyncio
import datetime
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches" / "peers"))
import wire  # noqa: E402
from process import Server, free_port  # noqa: E402

STREAMS = (1, 8, 64)
MOST_BYTES = 64 << 20  # of the program, stripped
PROMPT, ANSWER = 128, 128

SHAPES = {
    "llama-3.1-8b": ("bfloat16", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "head_dim": 128,
        "vocab_size": 128256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1}),
    "gpt-j-6b": ("float16", {
        "architectures": ["GPTJForCausalLM"], "model_type": "gptj", "n_embd": 4096, "n_head": 16, "n_layer": 28,
        "n_positions": 2048, "rotary_dim": 64, "vocab_size": 50400, "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new", "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1}),
    "gpt-neox-20b": ("float16", {
        "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": 6144,
        "intermediate_size": 24576, "num_attention_heads": 64, "num_hidden_layers": 44, "vocab_size": 50432,
        "max_position_embeddings": 2048, "rotary_pct": 0.25, "rotary_emb_base": 10000, "layer_norm_eps": 1e-5,
        "hidden_act": "gelu_fast", "use_parallel_residual": True, "tie_word_embeddings": False,
        "bos_token_id": 0, "eos_token_id": 1}),
}
TINY = ("float32", SHAPES["llama-3.1-8b"][1] | {
    "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512})


def environment():
    """CUDA's libraries of this Python's packages, with the one name that cudarc looks for."""
    env = dict(os.environ)
    try:
        import nvidia
        packages = Path(list(nvidia.__path__)[0])
    except ImportError:
        return env
    links = Path(tempfile.mkdtemp(prefix="sconce-nccl-"))
    nccl = packages / "nccl" / "lib" / "libnccl.so.2"
    if nccl.exists():
        (links / "libnccl.so").symlink_to(nccl)
    folders = [links, *packages.glob("cu13/lib"), *packages.glob("*/lib")]
    known = [env.get("LD_LIBRARY_PATH", ""), "/usr/local/nvidia/lib64", "/usr/local/cuda/lib64"]
    env["LD_LIBRARY_PATH"] = ":".join([str(folder) for folder in folders] + known)
    return env


def output(*command, env=None):
    done = subprocess.run([str(word) for word in command], env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout


def run_tests(program, built_at, env):
    """The tests of the goldens on GPUs. They find models/tiny where they were built."""
    if built_at and not Path(built_at).exists():
        Path(built_at).parent.mkdir(parents=True, exist_ok=True)
        Path(built_at).symlink_to(ROOT)
    code, text = output(program, "goldens::gpus", "--test-threads=1", "--nocapture", env=env)
    lines = [line for line in text.splitlines() if line.startswith(("test ", "skipped", "test result"))]
    if code:
        lines += ["```", *text.splitlines()[-40:], "```"]
    return code == 0, lines


def make(folder, dtype, config):
    """A checkpoint of random numbers, of the size that trained ones have."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_utils import no_init_weights

    folder.mkdir(parents=True)
    config = config | {"torch_dtype": dtype}
    (folder / "config.json").write_text(json.dumps(config))
    words(folder, config["vocab_size"])
    with no_init_weights(), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), torch_dtype=getattr(torch, dtype))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    files, part, bytes_of_part, index = {}, {}, 0, 0

    def write():
        nonlocal part, bytes_of_part, index
        name = f"model-{index:05}.safetensors"
        save_file(part, folder / name, metadata={"format": "pt"})
        files.update({tensor: name for tensor in part})
        part, bytes_of_part, index = {}, 0, index + 1

    for name, tensor in model.state_dict().items():
        if "norm" in name or "ln_" in name:
            made = torch.ones(tensor.shape) if name.endswith("weight") else torch.zeros(tensor.shape)
        else:
            made = torch.randn(tensor.shape, device=device) * 0.02
        part[name] = made.to(getattr(torch, dtype)).cpu().contiguous()
        bytes_of_part += part[name].nbytes
        if bytes_of_part > 4 << 30:
            write()
    write()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": files}))
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def bandwidth():
    """Bytes per second that a copy on the GPU reads and writes together."""
    import torch
    if not torch.cuda.is_available():
        return None
    source = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
    to, rates = torch.empty_like(source), []
    for _ in range(10):
        torch.cuda.synchronize()
        began = time.perf_counter()
        to.copy_(source)
        torch.cuda.synchronize()
        rates.append(2 * source.nbytes / (time.perf_counter() - began))
    return statistics.median(rates)


def words(folder, size):
    """A tokenizer of so many words, each a token, so that every token has a text and prompts the length that is asked."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {f" w{index}": index for index in range(size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" w2"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))


def prompts(seed, count, tokens):
    rng = random.Random(seed)
    return ["".join(f" w{rng.randrange(10, 200)}" for _ in range(tokens)) for _ in range(count)]


def request(prompt, tokens):
    return wire.body("invocations", prompt, tokens, {})


def measure(sconce, folder, env, long_prompt, eager):
    """Seconds to ready, rates by number of streams, and what the log says of memory."""
    port = free_port()
    # One GPU: replicas on others would share the requests.
    (folder / "serving.properties").write_text(
        f"option.rolling_batch=auto\noption.max_rolling_batch_size={max(STREAMS)}\noption.device=cuda\n"
        f"load_on_devices=0\noption.enable_prefix_caching=false\noption.enforce_eager={str(eager).lower()}\n"
        + ("option.max_rolling_batch_prefill_tokens=64\n" if max(STREAMS) < 64 else ""))
    command = [sconce, "serve", folder, "--host", "127.0.0.1", "--port", port]
    with Server(command, env, port, os.sched_getaffinity(0)) as server:
        while True:
            server.check()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.02)
        ready = time.perf_counter() - server.began

        async def ask(seed, streams, length, tokens):
            waiting = prompts(seed, streams, length)
            began = time.perf_counter()
            answers = await asyncio.gather(*(wire.ask(port, "invocations", request(p, tokens), 300) for p in waiting))
            return answers, time.perf_counter() - began

        async def all_of_it():
            await ask(0, 2, PROMPT, 8)
            long = [(await ask(seed, 1, long_prompt, 1))[0][0] for seed in (1, 2, 3)]
            figures = {"prefill": statistics.median((a["prompt"] or long_prompt) / a["first"] for a in long)}
            for streams in STREAMS:
                rounds = [await ask(10 + seed, streams, PROMPT, ANSWER) for seed in range(3)]
                figures[streams] = statistics.median(streams * ANSWER / wall for _, wall in rounds)
                if streams == 1:
                    figures["decode"] = statistics.median((ANSWER - 1) / a[0]["rest"] for a, _ in rounds)
            return figures

        figures = {"ready": ready} | asyncio.run(all_of_it())
        log = Path(server.log.name).read_text(errors="replace")
        told = [line.strip() for line in log.splitlines()
                if "measured on the first GPU" in line or "WARN" in line]
        return figures | {"told": told}


BASELINE = """
import json, sys, time, statistics, torch
from transformers import AutoModelForCausalLM
folder, dtype, streams, prompt, answer = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
device = "cuda" if torch.cuda.is_available() else "cpu"
began = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=getattr(torch, dtype)).to(device)
figures = {"ready": time.perf_counter() - began}
sync = torch.cuda.synchronize if device == "cuda" else (lambda: None)
def rate(count, tokens):
    ids = torch.randint(2, 200, (count, prompt), device=device)
    sync(); began = time.perf_counter()
    model.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0)
    sync(); return time.perf_counter() - began
rate(1, 4)
for count in streams:
    walls = [rate(count, answer) for _ in range(2)]
    figures[str(count)] = count * answer / statistics.median(walls)
    if count == 1:
        figures["decode"] = (answer - 1) / (statistics.median(walls) - rate(1, 1))
print(json.dumps(figures))
"""


def baseline(folder, dtype, env):
    """What transformers does, as DJL Serving's Hugging Face handler calls it; it has no rolling batch."""
    code, text = output(sys.executable, "-c", BASELINE, folder, dtype, json.dumps(STREAMS), PROMPT, ANSWER, env=env)
    if code:
        return None, text.strip().splitlines()[-1]
    return json.loads(text.strip().splitlines()[-1]), None


def table(name, size, ours, eager, theirs, bound):
    def row(label, key, unit):
        mine, plain, other = ours[key], eager[key], (theirs or {}).get(str(key))
        ratio = f"{mine / other:.2f}" if mine and other else ""
        cells = [label, f"{mine:,.2f} {unit}", f"{plain:,.2f} {unit}", f"{other:,.2f} {unit}" if other else "", ratio]
        return f"| {' | '.join(cells)} |"

    lines = [f"### {name}, {size / 1e9:.2f} GB", "", "| | sconce | without graphs | transformers | ratio |",
             "| --- | ---: | ---: | ---: | ---: |",
             row("start to ready", "ready", "s"), row("prefill of one long prompt", "prefill", "tok/s"),
             row("decode, one stream", "decode", "tok/s")]
    lines += [row(f"{streams} streams, {PROMPT} in, {ANSWER} out", streams, "tok/s") for streams in STREAMS]
    if bound:
        lines += ["", f"Reading the weights once a token allows {bound:,.1f} tok/s: {ours['decode'] / bound:.2f} of it."]
    return lines + ["", *(f"    {line}" for line in ours["told"]), ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sconce", type=Path, required=True)
    parser.add_argument("--tests", type=Path, help="the program of the integration tests")
    parser.add_argument("--built-at", help="where the tests were built: they look for models/tiny there")
    parser.add_argument("--out", type=Path, required=True, help="the folder that the page goes to")
    parser.add_argument("--shapes", nargs="+", default=["llama-3.1-8b"], choices=[*SHAPES, "tiny"])
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "sconce-gpu-check")
    arguments = parser.parse_args()
    env = environment()
    global STREAMS, PROMPT, ANSWER
    if arguments.shapes == ["tiny"]:
        # An emulated GPU takes seconds for what others do in a millisecond.
        STREAMS, PROMPT, ANSWER = (1, 2), 8, 24
    _, gpu = output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader") \
        if shutil.which("nvidia-smi") else (1, "no nvidia-smi")
    gpu = gpu.strip()
    _, version = output(arguments.sconce, "--version")
    when = datetime.datetime.now().strftime("%Y-%m-%d")
    lines = [f"# {gpu.splitlines()[0]}, {when}", "", f"- {version.strip()}", f"- GPUs: {gpu}",
             f"- `{' '.join(['python3', 'benches/gpu/check.py', *sys.argv[1:]])}`"]
    for package in ("torch", "transformers"):
        try:
            lines.append(f"- {package} {__import__(package).__version__}")
        except ImportError:
            lines.append(f"- {package}: not there")
    weight = arguments.sconce.stat().st_size
    passed = weight <= MOST_BYTES
    lines.append(f"- the program has {weight / 2**20:.1f} MiB, {'within' if passed else 'MORE THAN'} {MOST_BYTES >> 20} MiB"
                 + ("" if passed else ": strip it"))
    if arguments.tests:
        correct, told = run_tests(arguments.tests.resolve(), arguments.built_at, env)
        passed = passed and correct
        lines += ["", "## Numbers", "", *told]
    rate = bandwidth()
    lines += ["", "## Speed", "", f"Copies on the GPU: {rate / 1e9:,.0f} GB/s, read and written together." if rate else
              "No GPU that torch sees: bounds are left out.", ""]
    for name in arguments.shapes:
        dtype, config = TINY if name == "tiny" else SHAPES[name]
        folder = arguments.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        try:
            size = make(folder, dtype, config)
            longest = config.get("max_position_embeddings") or config["n_positions"]
            long_prompt = 16 * PROMPT if 16 * PROMPT < longest else longest // 2
            ours, eager = (measure(arguments.sconce.resolve(), folder, env, long_prompt, eager) for eager in (False, True))
            theirs, problem = baseline(folder, dtype, env)
            lines += table(name, size, ours, eager, theirs, rate / size if rate else None)
            if problem:
                lines += [f"transformers: {problem}", ""]
        except Exception as error:  # One shape must not hide what another showed.
            passed = False
            lines += [f"### {name}", "", f"failed: {error}", ""]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    slug = "".join(c if c.isalnum() else "-" for c in gpu.split(",")[0].lower()).strip("-")
    arguments.out.mkdir(parents=True, exist_ok=True)
    page = arguments.out / f"{when}-{slug}.md"
    page.write_text("\n".join(lines) + "\n")
    print(page.read_text())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
