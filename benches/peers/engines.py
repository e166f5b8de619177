"""What is compared: for each engine and format, how its server is started and asked.

All get the same weights, threads, sequences and tokens for each. What could answer from a
cache of earlier prompts is switched off. Whether a peer is there is found out by looking for what
install.py puts below `--peers`; nothing is fetched here.
"""
import importlib.metadata
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import wire

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclass
class Setting:
    """What all engines of one run share."""
    model: Path
    peers: Path
    sconce: Path
    scratch: Path
    threads: int
    sequences: int
    context: int

    def python(self, venv="venv"):
        return self.peers / venv / "bin" / "python"


class Engine:
    """One row of the tables. `bits` says with which row of sconce it is compared."""
    kind, peer, http = "completions", "", "its own server"
    # Whether several requests share a step; otherwise they queue.
    batches = True
    # Seconds until it must have answered, and whether it takes long to get there.
    patience, slow = 60, False

    def __init__(self, form, bits):
        self.form, self.bits = form, bits

    @property
    def name(self):
        return f"{self.peer} {self.form}"

    @property
    def key(self):
        """How the command line names it."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower())

    def request(self, setting, prompt, tokens):
        return wire.body(self.kind, prompt, tokens, self.extra(setting, tokens))

    def extra(self, _setting, _tokens):
        return {}

    def bound(self, _setting):
        """Tokens per second that one stream can have at most, where somebody knows."""
        return None

    def missing(self, setting):
        """Why it cannot be measured, with the cure; None if it can."""
        for path in self.needs(setting):
            if not path.exists():
                return f"{path} is not there: {self.cure(path)}"
        return None

    def cure(self, _path):
        return f"python3 benches/peers/install.py {self.step}"

    def environment(self, setting):
        return {}

    # Each kind of engine says: step, needs(setting), weights(setting), command(setting, port),
    # version(setting).


class Sconce(Engine):
    peer, kind = "sconce", "invocations"

    def __init__(self, form, bits, properties="", gguf=None):
        super().__init__(form, bits)
        self.properties, self.gguf = properties, gguf

    def needs(self, setting):
        return [setting.sconce, self.weights(setting)]

    def cure(self, path):
        if path.name == "sconce":
            return "cargo build --release --package sconce"
        return "python3 benches/peers/install.py llama" if self.gguf else "make model"

    def weights(self, setting):
        return gguf(setting, self.gguf) if self.gguf else setting.model

    def command(self, setting, port):
        return [setting.sconce, "serve", self.folder(setting), "--host", "127.0.0.1", "--port", port]

    def folder(self, setting):
        """Links to the weights beside settings of this run."""
        folder = setting.scratch / self.key
        if not folder.exists():
            folder.mkdir(parents=True)
            weights = self.weights(setting)
            files = [weights] if self.gguf else weights.iterdir()
            for file in files:
                if file.is_file() and file.name != "serving.properties" and not file.name.startswith("."):
                    (folder / file.name).symlink_to(file)
            (folder / "serving.properties").write_text(
                "engine=Python\noption.rolling_batch=auto\noption.enable_prefix_caching=false\n"
                f"option.max_rolling_batch_size={setting.sequences}\noption.threads={setting.threads}\n"
                f"option.max_model_len={setting.context}\n{self.properties}")
        return folder

    def bound(self, setting):
        """What reading the weights once per token allows, at the bandwidth of this moment."""
        try:
            return json.loads(output([setting.sconce, "check", self.folder(setting), "--json"], False))[
                "speed"]["one_sequence"]
        except (ValueError, KeyError, TypeError):
            return None

    def version(self, setting):
        commit = output(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=10"])
        return f"{output([setting.sconce, '--version']) or 'sconce'}, working tree at {commit or 'no commit'}"


class Llama(Engine):
    peer, step = "llama.cpp", "llama"

    def server(self, setting):
        return setting.peers / "llama-build" / "bin" / "llama-server"

    def needs(self, setting):
        return [self.server(setting), self.weights(setting)]

    def weights(self, setting):
        return gguf(setting, self.form)

    def command(self, setting, port):
        threads = str(setting.threads)
        return [self.server(setting), "--model", self.weights(setting), "--host", "127.0.0.1",
                "--port", port, "--threads", threads, "--threads-batch", threads,
                "--parallel", setting.sequences, "--ctx-size", setting.sequences * setting.context,
                "--no-cache-prompt", "--cache-ram", "0", "--slot-prompt-similarity", "0", "--no-webui"]

    def version(self, setting):
        text = output([self.server(setting), "--version"]) or ""
        found = re.search(r"version: (.+)", text)
        package = setting.peers / "llama-package"
        return ", ".join(filter(None, [
            found and found.group(1), package.read_text().strip() if package.exists() else None]))


class Transformers(Engine):
    """What DJL Serving's own handler computes with. Without continuous batching, its default,
    requests wait for each other."""
    peer, step, patience, slow = "transformers", "torch", 240, True

    def __init__(self, form, bits, continuous=False):
        super().__init__(form, bits)
        self.batches = continuous

    @property
    def name(self):
        return f"{self.peer} {self.form}" + (" continuous" if self.batches else "")

    def needs(self, setting):
        return [setting.peers / "venv" / "bin" / "transformers", setting.model]

    def weights(self, setting):
        return setting.model

    def command(self, setting, port):
        dtype = {"bf16": "bfloat16", "f32": "float32"}[self.form]
        batching = ["--continuous-batching"] if self.batches else []
        return [setting.peers / "venv" / "bin" / "transformers", "serve", setting.model,
                "--device", "cpu", "--dtype", dtype, "--host", "127.0.0.1", "--port", port, *batching]

    def environment(self, setting):
        return {"OMP_NUM_THREADS": str(setting.threads), "HF_HUB_OFFLINE": "1",
                "CUDA_VISIBLE_DEVICES": ""}

    def extra(self, setting, tokens):
        # It refuses fields that it does not know. Without an end-of-text token the answer has
        # its full length.
        config = f'{{"do_sample": false, "min_new_tokens": {tokens}, "max_new_tokens": {tokens}}}'
        return {"model": str(setting.model), "min_tokens": None, "ignore_eos": None,
                "stream_options": None, "generation_config": config}

    def version(self, setting):
        return versions(setting, "venv", "transformers", "torch")


class Vllm(Engine):
    peer, step, patience, slow = "vLLM", "vllm", 400, True

    def needs(self, setting):
        return [setting.python("venv-vllm"), setting.model]

    def weights(self, setting):
        return setting.model

    def command(self, setting, port):
        # What `vllm serve` runs; that command itself looks for a package named vllm.
        return [setting.python("venv-vllm"), "-m", "vllm.entrypoints.openai.api_server",
                "--model", setting.model, "--served-model-name", "default", "--dtype", "bfloat16", "--host", "127.0.0.1",
                "--port", port, "--max-model-len", setting.context,
                "--max-num-seqs", setting.sequences, "--no-enable-prefix-caching"]

    def environment(self, setting):
        return {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "OMP_NUM_THREADS": str(setting.threads), "HF_HUB_OFFLINE": "1",
                "VLLM_NO_USAGE_STATS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def version(self, setting):
        return versions(setting, "venv-vllm", "vllm-cpu", "torch")


class Library(Engine):
    """A library without a server of its own, behind shim.py."""
    http = "in-process, behind shim.py"

    def __init__(self, form, bits, folder, *arguments):
        super().__init__(form, bits)
        self.folder, self.arguments = folder, arguments

    def needs(self, setting):
        return [setting.python(), self.weights(setting)]

    def weights(self, setting):
        return setting.peers / self.folder

    def command(self, setting, port):
        return [setting.python(), HERE / "shim.py", self.step, self.weights(setting),
                "--tokenizer", setting.model / "tokenizer.json", "--port", port,
                "--threads", setting.threads, "--sequences", setting.sequences,
                *self.arguments]

    def environment(self, setting):
        return {"OMP_NUM_THREADS": str(setting.threads)}


class OpenVino(Library):
    peer, step = "OpenVINO GenAI", "openvino"
    http = "its ContinuousBatchingPipeline, behind shim.py"

    def version(self, setting):
        return versions(setting, "venv", "openvino-genai", "openvino")


class CTranslate2(Library):
    peer, step, batches = "CTranslate2", "ctranslate2", False

    def version(self, setting):
        return versions(setting, "venv", "ctranslate2")


class OnnxRuntime(Library):
    peer, step, batches = "ONNX Runtime GenAI", "onnxruntime", False

    def version(self, setting):
        return versions(setting, "venv", "onnxruntime-genai", "onnxruntime")


def gguf(setting, form):
    return setting.peers / "gguf" / f"model-{form.lower()}.gguf"


def output(command, errors=True):
    """What a command says, on standard error too or not; None if it fails."""
    try:
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, timeout=30,
                              stderr=subprocess.STDOUT if errors else subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions(setting, venv, *packages):
    """Of packages of another interpreter, read without starting it."""
    folders = [str(path) for path in (setting.peers / venv / "lib").glob("python*/site-packages")]
    found = []
    for package in packages:
        distributions = importlib.metadata.distributions(name=package, path=folders)
        found += [f"{package} {one.version}" for one in distributions][:1]
    return ", ".join(found)


# Keys and values in 16 bits, as with llama.cpp; OpenVINO keeps 8 unless told otherwise.
CACHE = "option.kv_cache_dtype=bf16\n"

# The first of sconce's rows with equal bits is what a peer is compared with.
ENGINES = [
    Sconce("bf16", 16, "option.dtype=bf16\n"),
    Sconce("bf16 stored", 16),
    Sconce("q8_0", 8, "option.quantize=q8_0\n" + CACHE),
    Sconce("q4_0", 4, "option.quantize=q4_0\n" + CACHE),
    Sconce("q4_k", 4.5, "option.quantize=q4_k\n" + CACHE),
    Sconce("q8_0 gguf", 8, CACHE, gguf="q8_0"),
    Sconce("q4_0 gguf", 4, CACHE, gguf="q4_0"),
    Sconce("q4_K_M gguf", 4.5, CACHE, gguf="q4_K_M"),
    Sconce("f32", 32, "option.dtype=fp32\n"),
    Llama("bf16", 16),
    Llama("q8_0", 8),
    Llama("q4_0", 4),
    Llama("q4_K_M", 4.5),
    Llama("f16", 16),
    Llama("f32", 32),
    OpenVino("bf16", 16, "openvino-16"),
    OpenVino("int8", 8, "openvino-8"),
    OpenVino("int4", 4, "openvino-4"),
    Vllm("bf16", 16),
    Transformers("bf16", 16),
    Transformers("bf16", 16, continuous=True),
    Transformers("f32", 32),
    CTranslate2("f32", 32, "ctranslate2", "--compute", "float32"),
    CTranslate2("int8", 8, "ctranslate2", "--compute", "int8"),
    OnnxRuntime("int4", 4, "onnxruntime-4"),
    OnnxRuntime("f32", 32, "onnxruntime-32"),
]
