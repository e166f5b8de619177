#!/usr/bin/env python3
"""What adapters cost and what guesses gain, on the default model, asked through the server.

    python3 benches/features.py SCONCE adapters|speculation

SCONCE is the built program. Nothing but Python's standard library is needed; the default model must be there
(`make model`). Prompts are short and answers long, so that what is timed is decoding.

adapters: batches of 16 requests with no adapter, with one, and with 16 different ones, in turns, in one server.
Adapters are made at random: rank 8 on queries and values, as PEFT has it for Llama where nobody says, and rank 16 on all
linear layers. The cost is the median of what a batch takes longer than the one without adapters beside it.

speculation: one greedy request at a time, for a text that repeats and for one that does not, without guesses, with prompt
lookup, and with a draft model. There is no smaller model with this vocabulary, so what drafts is the model's own first
layers under its own head, which no training made for it: a lower bound of what a draft model gains.
"""

import json
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

MODEL = Path(__file__).resolve().parents[1] / "models" / "smollm2-135m-instruct"
STREAMS, ROUNDS = 16, 7
LINEAR = {
    "self_attn.q_proj": (576, 576), "self_attn.k_proj": (192, 576), "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576), "mlp.gate_proj": (1536, 576), "mlp.up_proj": (1536, 576), "mlp.down_proj": (576, 1536),
}
LAYERS, DRAFTING = 30, 4
REPEATS = """Copy this text, then copy it again and again:
def load(path):
    with open(path) as file:
        return json.load(file)

def save(path, value):
    with open(path, 'w') as file:
        json.dump(value, file)

def load(path):
    with open(path) as file:
        return json.load(file)

def save(path, value):
    with open(path, 'w') as file:
"""
NEW_TEXT = "Write a story about a lighthouse keeper and a storm, in which every sentence begins with another word."


def write_safetensors(path, tensors):
    """Of name: (shape, bytes), all bf16."""
    header, at = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for _, data in tensors.values():
            file.write(data)


def numbers(generator, count):
    """Random bf16 numbers between -0.01 and 0.01, so that texts stay texts."""
    table = [struct.pack(">f", (at - 127.5) / 12750) for at in range(256)]
    high, low = bytes(value[0] for value in table), bytes(value[1] for value in table)
    picked, data = generator.randbytes(count), bytearray(2 * count)
    data[0::2], data[1::2] = picked.translate(low), picked.translate(high)
    return bytes(data)


def write_adapter(folder, rank, modules, seed):
    folder.mkdir(parents=True)
    generator, tensors = random.Random(seed), {}
    for layer in range(LAYERS):
        for name in modules:
            outputs, inputs = LINEAR[name]
            base = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{base}.lora_A.weight"] = [rank, inputs], numbers(generator, rank * inputs)
            tensors[f"{base}.lora_B.weight"] = [outputs, rank], numbers(generator, outputs * rank)
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    names = [name.split(".")[1] for name in modules]
    config = dict(peft_type="LORA", r=rank, lora_alpha=2 * rank, bias="none", target_modules=names)
    (folder / "adapter_config.json").write_text(json.dumps(config))


def write_draft(folder):
    """The first layers of the default model, as a checkpoint."""
    folder.mkdir(parents=True)
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"]:
        shutil.copy(MODEL / name, folder / name)
    config = json.loads((MODEL / "config.json").read_text())
    config["num_hidden_layers"] = DRAFTING
    (folder / "config.json").write_text(json.dumps(config))
    with open(MODEL / "model.safetensors", "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        tensors = {}
        for name, entry in header.items():
            parts = name.split(".")
            if name != "__metadata__" and not (parts[1] == "layers" and int(parts[2]) >= DRAFTING):
                begin, end = entry["data_offsets"]
                file.seek(8 + size + begin)
                tensors[name] = entry["shape"], file.read(end - begin)
    write_safetensors(folder / "model.safetensors", tensors)


class Server:
    """The default model with these properties, until the end of a `with`."""

    def __init__(self, sconce, place, properties, port):
        folder = Path(place) / f"model-{port}"
        folder.mkdir()
        for file in MODEL.iterdir():
            (folder / file.name).symlink_to(file) if file.name != "serving.properties" else None
        properties = ["option.rolling_batch=auto", *properties]
        (folder / "serving.properties").write_text("\n".join(properties) + "\n")
        self.url = f"http://127.0.0.1:{port}"
        self.log = open(Path(place) / f"log-{port}", "w+")
        self.process = subprocess.Popen(
            [sconce, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)], stdout=self.log, stderr=self.log
        )

    def __enter__(self):
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.url}/ping", timeout=5)
                return self
            except OSError:
                assert self.process.poll() is None, Path(self.log.name).read_text()
                time.sleep(0.05)
        sys.exit("the server does not become ready")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def ask(self, body):
        request = urllib.request.Request(
            f"{self.url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.loads(answer.read())

    def batch(self, bodies):
        """Seconds until all are answered."""
        threads = [threading.Thread(target=self.ask, args=[body]) for body in bodies]
        began = time.monotonic()
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        return time.monotonic() - began


def adapters(sconce):
    new, port = 96, 18500
    for title, rank, modules in [
        ("rank 8 on q_proj and v_proj", 8, ["self_attn.q_proj", "self_attn.v_proj"]),
        ("rank 16 on all linear layers", 16, list(LINEAR)),
    ]:
        with tempfile.TemporaryDirectory() as place:
            for number in range(STREAMS):
                write_adapter(Path(place) / "adapters" / f"a{number}", rank, modules, number)
            port += 1
            properties = [
                "option.enable_lora=true", f"option.max_loras={STREAMS}", f"option.max_lora_rank={rank}",
                f"option.adapters={place}/adapters",
            ]
            with Server(sconce, place, properties, port) as server:
                times = {0: [], 1: [], STREAMS: []}
                for turn in range(ROUNDS + 1):
                    for count in times:
                        bodies = []
                        for stream in range(STREAMS):
                            parameters = dict(max_new_tokens=new, ignore_eos_token=True, do_sample=False)
                            body = dict(inputs=f"Text {turn} {stream} is", parameters=parameters)
                            if count:
                                body["adapters"] = f"a{stream % count}"
                            bodies.append(body)
                        seconds = server.batch(bodies)
                        # The first turn warms up.
                        times[count] += [seconds] if turn else []
            for count, seconds in times.items():
                cost = statistics.median(b / a - 1 for a, b in zip(times[0], seconds))
                rate = STREAMS * new / statistics.median(seconds)
                print(f"{title}: {count:2} adapters {rate:7.1f} tok/s, {100 * cost:5.1f} % longer", flush=True)


def speculation(sconce):
    new, rounds = 128, 3
    with tempfile.TemporaryDirectory() as place:
        draft = Path(place) / "draft"
        write_draft(draft)
        ways = {
            "no guesses": [],
            "prompt lookup, 4 tokens": ['option.speculative_config={"method": "ngram", "num_speculative_tokens": 4}'],
            f"{DRAFTING} layers draft, 3 tokens": [
                f"option.speculative_draft_model={draft}", "option.num_speculative_tokens=3",
            ],
        }
        servers = [(name, Server(sconce, place, ["option.max_model_len=2048", "option.kv_cache_memory=512MiB", *properties], 18510 + at))
                   for at, (name, properties) in enumerate(ways.items())]
        for title, text in [("a text that repeats", REPEATS), ("a text that does not", NEW_TEXT)]:
            prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
            parameters = dict(max_new_tokens=new, ignore_eos_token=True, do_sample=False)
            body = dict(inputs=prompt, parameters=parameters)
            rates, answers = {name: [] for name, _ in servers}, set()
            for turn in range(rounds + 1):
                for name, server in servers:
                    server.__enter__()
                    began = time.monotonic()
                    answers.add(server.ask(body)["generated_text"])
                    seconds = time.monotonic() - began
                    # The first turn warms up, and fills the cache with the prompt.
                    rates[name] += [new / seconds] if turn else []
            assert len(answers) == 1, "guesses changed an answer"
            plain = statistics.median(rates["no guesses"])
            for name, found in rates.items():
                rate = statistics.median(found)
                print(f"{title}: {name:24} {rate:6.1f} tok/s, {rate / plain:4.2f} times as fast", flush=True)
        for _, server in servers:
            server.__exit__()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in ("adapters", "speculation"):
        sys.exit(__doc__)
    {"adapters": adapters, "speculation": speculation}[sys.argv[2]](sys.argv[1])
