#!/usr/bin/env python3
"""Milliseconds for a UNet of middle size and an autoencoder, random weights in float32: `cargo bench --bench draw` beside
diffusers on torch, in rounds taken in turns.

    pip install torch "transformers<5" diffusers
    python benches/peers/draw.py --make        # the weights, in target/bench-diffusion
    cargo bench --bench draw --no-run          # prints the path of the program
    python benches/peers/draw.py --sconce target/release/deps/draw-… --rounds 3 --out benches/results/draw.md

One guided prediction, two rows of 64 x 64 latents with 77 tokens; one decoded picture of 256 x 256. A figure is the
median of seven measurements in a process of its own after one that does not count, with the least of them; the table has
medians of rounds, the least of all, and the median of the ratios within a round. diffusers runs eagerly, as its
pipelines do, with its tensors as they come and with channels last.
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
FOLDER = ROOT / "target" / "bench-diffusion"
MEASUREMENTS = 7
CASES = ["a guided prediction of 64 × 64 latents", "a decoded picture of 256 × 256"]
LINE = re.compile(r"^(a .*): (\d+) ms, least (\d+)$", re.MULTILINE)
PEERS = {"diffusers": False, "diffusers, channels last": True}


def make():
    if (FOLDER / "vae" / "config.json").exists():
        return
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.manual_seed(1)
    UNet2DConditionModel(
        block_out_channels=(160, 320, 640), down_block_types=["CrossAttnDownBlock2D"] * 2 + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 2, cross_attention_dim=768, attention_head_dim=8,
    ).save_pretrained(FOLDER / "unet")
    AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4, latent_channels=4,
    ).save_pretrained(FOLDER / "vae")


def measure(channels_last, threads):
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.set_num_threads(threads)
    unet = UNet2DConditionModel.from_pretrained(FOLDER / "unet").eval()
    vae = AutoencoderKL.from_pretrained(FOLDER / "vae").eval()
    if channels_last:
        unet.to(memory_format=torch.channels_last), vae.to(memory_format=torch.channels_last)
    latents, states, small = torch.randn(2, 4, 64, 64), torch.randn(2, 77, 768), torch.randn(1, 4, 32, 32)
    for what, compute in zip(CASES, [lambda: unet(latents, 500, states), lambda: vae.decode(small)]):
        def once():
            began = time.perf_counter()
            with torch.inference_mode():
                compute()
            return (time.perf_counter() - began) * 1000

        once()
        times = sorted(once() for _ in range(MEASUREMENTS))
        print(f"{what}: {times[MEASUREMENTS // 2]:.0f} ms, least {times[0]:.0f}", flush=True)


def run(command):
    """Median and least of each case, and the load of the machine when the program begins."""
    load = os.getloadavg()[0]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {what: (int(median), int(least)) for what, median, least in LINE.findall(output)}
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
    median = lambda name, case: statistics.median(found[case][0] for found in rounds[name])
    least = lambda name, case: min(found[case][1] for found in rounds[name])
    lines = [
        "# A UNet and an autoencoder of middle size, random weights, f32", "",
        f"Milliseconds: medians of {arguments.rounds} rounds taken in turns, the least of all in brackets, {arguments.threads} "
        f"threads, {datetime.date.today()}. {machine()}.", "",
        f"diffusers {version('diffusers')} on torch {version('torch')}, eager. The load of the machine before each run was "
        f"{min(loads):.1f} to {max(loads):.1f}"
        + (": it was shared with other programs." if max(loads) > arguments.threads else ".")
        + " Made by `benches/peers/draw.py`.", "",
        "| | " + " | ".join(rounds) + " | × the faster peer (median of rounds) | × (least times) |",
        "| --- " * (len(rounds) + 3) + "|",
    ]
    for case in CASES:
        figures = " | ".join(f"{median(name, case):.0f} ({least(name, case)})" for name in rounds)
        best = [min(rounds[name][at][case][0] for name in PEERS) for at in range(arguments.rounds)]
        ratio = statistics.median(peer / own[case][0] for peer, own in zip(best, rounds["sconce"]))
        of_least = min(least(name, case) for name in PEERS) / least("sconce", case)
        lines.append(f"| {case} | {figures} | {ratio:.2f} | {of_least:.2f} |")
    return "\n".join(lines) + "\n"


def machine():
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{os.cpu_count()} cores of {names[0] if names else 'an unnamed processor'}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--make", action="store_true", help="make the weights and nothing else")
    parser.add_argument("--engine", choices=PEERS, help="measure this one alone, in this process")
    parser.add_argument("--sconce", type=Path, help="the program that `cargo bench --bench draw --no-run` names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="write a page of Markdown")
    arguments = parser.parse_args()
    make()
    if arguments.engine:
        measure(PEERS[arguments.engine], arguments.threads)
    elif arguments.sconce:
        compare(arguments)
    elif not arguments.make:
        parser.error("name an --engine, or sconce's program with --sconce")


if __name__ == "__main__":
    main()
