#!/usr/bin/env python3
"""Milliseconds of diffusers for a UNet of middle size and an autoencoder, for comparison with `cargo bench --bench draw`.

    pip install torch "transformers<5" diffusers
    python benches/peers/draw.py [threads]

Makes target/bench-diffusion with random weights in float32 unless it is there. One guided prediction, two rows of
64 x 64 latents with 77 tokens; one decoded picture of 256 x 256. Medians of rounds.
"""

import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

ROUNDS = 7
FOLDER = Path(__file__).resolve().parents[2] / "target" / "bench-diffusion"

if len(sys.argv) > 1:
    torch.set_num_threads(int(sys.argv[1]))
if not (FOLDER / "vae" / "config.json").exists():
    torch.manual_seed(1)
    UNet2DConditionModel(
        block_out_channels=(160, 320, 640), down_block_types=["CrossAttnDownBlock2D"] * 2 + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 2, cross_attention_dim=768, attention_head_dim=8,
    ).save_pretrained(FOLDER / "unet")
    AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4, latent_channels=4,
    ).save_pretrained(FOLDER / "vae")

unet = UNet2DConditionModel.from_pretrained(FOLDER / "unet").eval()
vae = AutoencoderKL.from_pretrained(FOLDER / "vae").eval()
latents, states, small = torch.randn(2, 4, 64, 64), torch.randn(2, 77, 768), torch.randn(1, 4, 32, 32)


def measure(what, compute):
    def once():
        began = time.perf_counter()
        with torch.inference_mode():
            compute()
        return (time.perf_counter() - began) * 1000

    once()
    times = sorted(once() for _ in range(ROUNDS))
    print(f"{what}: {times[ROUNDS // 2]:.0f} ms, least {times[0]:.0f}", flush=True)


measure("a guided prediction of 64 x 64 latents", lambda: unet(latents, 500, states))
measure("a decoded picture of 256 x 256", lambda: vae.decode(small))
if "channels-last" in sys.argv:
    unet.to(memory_format=torch.channels_last), vae.to(memory_format=torch.channels_last)
    measure("the same with channels last", lambda: unet(latents, 500, states))
    measure("the same with channels last", lambda: vae.decode(small))
