#!/usr/bin/env python3
"""Makes the folders beside this file: tiny random pipelines and what diffusers computes with them.

    pip install torch "transformers<5" "huggingface-hub<1" diffusers safetensors scipy pillow
    python models/diffusion/make.py [folder ...]

Every folder is an ordinary diffusers pipeline with weights in float16 files, one of them in bfloat16, which both sides
compute with in float32, and golden.json with golden.safetensors:
  texts    prompts, their ids and embeddings
  unet     one pass through the UNet, at a square and at an odd size
  vae      what the autoencoder makes of an image, and of latents
  images   requests, and the latents and pictures that they end with; the generator is torch's on the CPU
`schedulers` has no pipeline: for every scheduler, made by from_config of one configuration, the timesteps, and what
each step makes of given predictions. `generator.json` has normal numbers of torch's generator. Everything is seeded.
"""

import json
import platform
import shutil
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    AutoencoderKL, DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler, HeunDiscreteScheduler, LCMScheduler, LMSDiscreteScheduler, PNDMScheduler,
    StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline,
    UNet2DConditionModel, UniPCMultistepScheduler,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer,
)

HERE = Path(__file__).parent
CORPUS = ["a photograph of an astronaut riding a horse", "a candle in its sconce on the wall of the hall",
          "two tigers in the snow, detailed, 4k", "the evening light falls on the floor, oil painting", "blurry, ugly"] * 8
PROMPTS = ["a candle in its sconce", "", "Two TIGERS   in the snow, it's 42% détaillé!",
           "the evening light falls on the floor of the hall, " * 12]
SCHEDULERS = [PNDMScheduler, DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler,
              DPMSolverMultistepScheduler, UniPCMultistepScheduler, LMSDiscreteScheduler, HeunDiscreteScheduler,
              LCMScheduler]
TRAINED = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def versions():
    return {"diffusers": diffusers.__version__, "transformers": transformers.__version__,
            "torch": torch.__version__, "python": platform.python_version()}


def write(folder, golden, tensors):
    (folder / "golden.json").write_text(json.dumps({"made with": versions(), **golden}, indent=1) + "\n")
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "golden.safetensors")


def tokenizer_into(folder, pad):
    """A vocabulary laid out as CLIP's: bytes, bytes at the end of words, merges, the two special tokens."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    trainer = trainers.BpeTrainer(vocab_size=200, end_of_word_suffix="</w>", show_progress=False)
    trained.train_from_iterator(CORPUS, trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    from transformers.models.clip.tokenization_clip import bytes_to_unicode
    letters = list(bytes_to_unicode().values())
    words = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: at for at, word in enumerate(dict.fromkeys(words))},
                                                  ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77,
                              pad_token=pad)
    return tokenizer


def text_encoder(kind, vocab, eos, act, hidden, layers, projection=None):
    config = CLIPTextConfig(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=77, hidden_act=act, projection_dim=projection or 16,
        bos_token_id=vocab - 2, eos_token_id=eos, pad_token_id=1)
    return kind(config)


def livelier(model, seed):
    """Weights that are far enough from their initial values that every one counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                fan = weight[0].numel()
                weight.copy_(noise * (1.1 / fan**0.5))
            elif name.endswith("bias"):
                weight.copy_(noise * 0.05)
            else:
                weight.copy_(1 + noise * 0.1)
        for _, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(buffer.half().float())
            # Numbers of float16, so that small files hold them exactly.
        for weight in model.parameters():
            weight.copy_(weight.half().float())
    return model.eval()


def autoencoder(seed, **more):
    return livelier(AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 8, 8, 16), layers_per_block=1,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, norm_num_groups=4,
        sample_size=64, **more), seed)


def unet(seed, **more):
    sizes = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 32), "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "norm_num_groups": 8, "cross_attention_dim": 16,
        "attention_head_dim": 4, **more}
    return livelier(UNet2DConditionModel(**sizes), seed)


SMALL = {"block_out_channels": (8, 16), "norm_num_groups": 4}


def picture(seed, width, height):
    """Something smooth with edges, as bytes."""
    y, x = np.mgrid[0:height, 0:width] / 16
    channels = [np.sin(x * (1 + c) + seed) * np.cos(y * (2 - c / 2)) for c in range(3)]
    numbers = np.stack(channels, -1) * 100 + 128
    numbers[height // 4:height // 2, width // 3:width // 2] = (250, 20, 60 + seed % 90)
    return np.clip(numbers, 0, 255).astype(np.uint8)


def mask(width, height):
    numbers = np.zeros((height, width), np.uint8)
    numbers[height // 3:, width // 4:3 * width // 4] = 255
    return numbers


def embeds(pipe, folder, xl):
    """Ids and embeddings of every prompt."""
    texts, tensors = [], {}
    for at, prompt in enumerate(PROMPTS):
        ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, truncation=True).input_ids
        entry = {"prompt": prompt, "ids": ids}
        if xl:
            found = pipe.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
            tensors[f"texts.{at}"], tensors[f"texts.{at}.pooled"] = found[0][0], found[2][0]
            entry["ids_2"] = pipe.tokenizer_2(prompt, padding="max_length", max_length=77, truncation=True).input_ids
        else:
            found, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
            tensors[f"texts.{at}"] = found[0]
        texts.append(entry)
    return texts, tensors


def one_pass(pipe, xl):
    """One pass through the UNet for two rows of different timesteps."""
    tensors, passes = {}, []
    generator = torch.Generator().manual_seed(11)
    channels, width = pipe.unet.config.in_channels, pipe.unet.config.cross_attention_dim
    for at, (height, breadth) in enumerate([(8, 8), (9, 7)]):
        x = torch.randn((2, channels, height, breadth), generator=generator)
        states = torch.randn((2, 77, width), generator=generator)
        times = torch.tensor([981.0, 41.5])
        added = None
        if xl:
            projection = pipe.text_encoder_2.config.projection_dim
            ids = (pipe.unet.config.projection_class_embeddings_input_dim - projection) // \
                pipe.unet.config.addition_time_embed_dim
            added = {"text_embeds": torch.randn((2, projection), generator=generator),
                     "time_ids": torch.tensor([[64.0, 72, 0, 8, 64, 64][:ids]] * 2)}
            tensors[f"unet.{at}.text_embeds"], tensors[f"unet.{at}.time_ids"] = added["text_embeds"], added["time_ids"]
        with torch.no_grad():
            out = pipe.unet(x, times, states, added_cond_kwargs=added).sample
        tensors |= {f"unet.{at}.in": x, f"unet.{at}.states": states, f"unet.{at}.out": out}
        passes.append({"times": times.tolist()})
    return passes, tensors


def through_vae(pipe, tiled):
    tensors = {}
    generator = torch.Generator().manual_seed(12)
    image = torch.rand((1, 3, 64, 48), generator=generator) * 2 - 1
    latents = torch.randn((2, 4, 8, 6), generator=generator)
    with torch.no_grad():
        tensors["vae.moments"] = pipe.vae.encode(image).latent_dist.parameters
        tensors["vae.decoded"] = pipe.vae.decode(latents).sample
        if not tiled:
            return tensors | {"vae.image": image, "vae.latents": latents}
        large, wide = torch.rand((1, 3, 104, 88), generator=generator) * 2 - 1, torch.randn((1, 4, 13, 11), generator=generator)
        pipe.vae.enable_tiling()
        tensors["vae.tiled.moments"] = pipe.vae.encode(large).latent_dist.parameters
        tensors["vae.tiled.decoded"] = pipe.vae.decode(wide).sample
        pipe.vae.disable_tiling()
    return tensors | {"vae.image": image, "vae.latents": latents, "vae.tiled.image": large, "vae.tiled.latents": wide}


def swapped(pipe, name, options):
    kind = next(kind for kind in SCHEDULERS if kind.__name__ == name)
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **options)


def said(base, kind):
    """What model_index.json says beside the components."""
    if kind in XL.values():
        return {"force_zeros_for_empty_prompt": base.config.force_zeros_for_empty_prompt}
    return {"requires_safety_checker": base.safety_checker is not None}


def images(kinds, base, requests):
    """What the requests are answered with. Each: name, kind of pipeline, prompt, negative prompt, arguments."""
    told, tensors = [], {}
    own = base.scheduler
    for request in requests:
        base.scheduler = own
        if "scheduler" in request:
            swapped(base, request["scheduler"], request.get("scheduler_options", {}))
        kind = kinds[request["kind"]]
        pipe = base if isinstance(base, kind) else kind(**base.components, **said(base, kind))
        pipe.set_progress_bar_config(disable=True)
        arguments = dict(request["parameters"])
        name = request["name"]
        generator = torch.Generator().manual_seed(arguments.pop("seed"))
        if "image" in request:
            numbers = picture(*request["image"])
            arguments["image"] = Image.fromarray(numbers)
            tensors[f"{name}.image"] = torch.from_numpy(numbers)
        if "mask" in request:
            numbers = mask(*request["mask"])
            arguments["mask_image"] = Image.fromarray(numbers)
            tensors[f"{name}.mask"] = torch.from_numpy(numbers)
        latents = []
        keep = lambda pipe, step, time, found: latents.append(found["latents"]) or found
        pipe.vae.use_tiling = request.get("tiled", False)
        out = pipe(prompt=request["prompt"], generator=generator, callback_on_step_end=keep, **arguments)
        pipe.vae.use_tiling = False
        tensors[f"{name}.latents"] = latents[-1]
        tensors[f"{name}.steps"] = torch.tensor([float(found.std()) for found in latents])
        if not request.get("latents only"):
            pictures = np.stack([np.asarray(image) for image in out.images])
            tensors[f"{name}.pictures"] = torch.from_numpy(pictures)
        flagged = getattr(out, "nsfw_content_detected", None)
        told.append({**request, **({"flagged": [bool(x) for x in flagged]} if flagged is not None else {})})
    base.scheduler = own
    return told, tensors


def saved(pipe, folder, variant=None, dtype=torch.float16, shard=None):
    if folder.exists():
        shutil.rmtree(folder)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.to(dtype)
    pipe.save_pretrained(folder, variant=variant, max_shard_size=shard)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.float()
    # As it is for who loads the folder: what the file says counts as said, also where it is the default.
    pipe.scheduler = type(pipe.scheduler).from_pretrained(folder / "scheduler")
    # What a slow tokenizer needs is vocab.json and merges.txt.
    for extra in folder.glob("tokenizer*/tokenizer.json"):
        extra.unlink()


def whole(folder, pipe, kinds, requests, xl=False, texts=True, **how):
    saved(pipe, folder, **how)
    golden, tensors = {}, {}
    with torch.no_grad():
        if texts:
            golden["texts"], found = embeds(pipe, folder, xl)
            tensors |= found
        golden["unet"], found = one_pass(pipe, xl)
        tensors |= found | through_vae(pipe, any("tiled" in request for request in requests))
        golden["images"], found = images(kinds, pipe, requests)
        tensors |= found
    write(folder, golden, tensors)
    print(folder.name, sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) // 1024, "KiB", flush=True)


SD = {"text": StableDiffusionPipeline, "image": StableDiffusionImg2ImgPipeline, "inpaint": StableDiffusionInpaintPipeline}
XL = {"xl-text": StableDiffusionXLPipeline, "xl-image": StableDiffusionXLImg2ImgPipeline,
      "xl-inpaint": StableDiffusionXLInpaintPipeline}


def case(name, kind, prompt=PROMPTS[0], image=None, mask=None, scheduler=None, options=None, tiled=None, **parameters):
    request = {"name": name, "kind": kind, "prompt": prompt,
               "parameters": {"seed": 7, "num_inference_steps": 10, **parameters}}
    for key, value in [("image", image), ("mask", mask), ("scheduler", scheduler), ("scheduler_options", options),
                       ("tiled", tiled)]:
        if value is not None:
            request[key] = value
    return request


def each_scheduler(kind, pictures=False):
    named = [(s.__name__, {}) for s in SCHEDULERS]
    named += [("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
              ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True})]
    cases = [case(f"{at}-{name}", kind, scheduler=name, options=options) for at, (name, options) in enumerate(named)]
    return cases if pictures else [{**found, "latents only": True} for found in cases]


def sd1(folder):
    tokenizer = tokenizer_into(Path("/tmp/sconce-tokenizer"), "<|endoftext|>")
    vocab = len(tokenizer)
    torch.manual_seed(1)
    pipe = StableDiffusionPipeline(
        vae=autoencoder(2), tokenizer=tokenizer, unet=unet(3, layers_per_block=2),
        text_encoder=livelier(text_encoder(CLIPTextModel, vocab, 2, "quick_gelu", 16, 2), 4),
        scheduler=PNDMScheduler(**TRAINED, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    requests = [
        case("plain", "text", guidance_scale=7.5),
        case("negative", "text", negative_prompt="blurry, ugly", height=72, width=56, seed=2**40 + 5),
        case("unguided", "text", guidance_scale=1.0),
        case("two", "text", num_images_per_prompt=2, num_inference_steps=4),
        case("prompts", "text", prompt=PROMPTS[:2], num_inference_steps=4, negative_prompt=["ugly", "blurry"]),
        case("eta", "text", scheduler="DDIMScheduler", eta=0.5),
        case("rescaled", "text", guidance_rescale=0.7),
        case("skip", "text", clip_skip=1, num_inference_steps=4),
        case("image", "image", image=(5, 64, 64), strength=0.6),
        case("image-resized", "image", image=(6, 75, 50), strength=0.8, scheduler="EulerAncestralDiscreteScheduler"),
        case("image-euler", "image", image=(5, 64, 64), strength=0.5, scheduler="EulerDiscreteScheduler"),
        case("image-heun", "image", image=(5, 64, 64), strength=0.5, scheduler="HeunDiscreteScheduler"),
        case("image-dpm", "image", image=(5, 64, 64), strength=0.5, scheduler="DPMSolverMultistepScheduler"),
        case("inpaint", "inpaint", image=(5, 64, 64), mask=(64, 64), strength=0.75),
        case("inpaint-full", "inpaint", image=(5, 64, 64), mask=(64, 64), scheduler="EulerDiscreteScheduler"),
        case("tiled", "text", height=104, width=88, num_inference_steps=4, tiled=True),
        case("image-tiled", "image", image=(5, 88, 104), strength=0.6, tiled=True),
    ] + each_scheduler("text", pictures=True)
    whole(folder, pipe, SD, requests)


def sd2(folder):
    tokenizer = tokenizer_into(Path("/tmp/sconce-tokenizer"), "!")
    torch.manual_seed(1)
    pipe = StableDiffusionPipeline(
        vae=autoencoder(12), tokenizer=tokenizer,
        unet=unet(13, use_linear_projection=True, attention_head_dim=[2, 4], cross_attention_dim=24,
                  upcast_attention=True, down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                  up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]),
        text_encoder=livelier(text_encoder(CLIPTextModel, len(tokenizer), len(tokenizer) - 1, "gelu", 24, 3), 14),
        scheduler=DDIMScheduler(**TRAINED, clip_sample=False, set_alpha_to_one=False, steps_offset=1,
                                prediction_type="v_prediction"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    requests = [case("plain", "text", guidance_scale=5.0), case("image", "image", image=(5, 64, 64), strength=0.6)]
    whole(folder, pipe, SD, requests + each_scheduler("text"), variant="fp16")


def sdxl(folder):
    torch.manual_seed(1)
    one = tokenizer_into(Path("/tmp/sconce-tokenizer"), "<|endoftext|>")
    two = tokenizer_into(Path("/tmp/sconce-tokenizer"), "!")
    vocab = len(one)
    pipe = StableDiffusionXLPipeline(
        vae=autoencoder(22, force_upcast=True, scaling_factor=0.13025), tokenizer=one, tokenizer_2=two,
        text_encoder=livelier(text_encoder(CLIPTextModel, vocab, 2, "quick_gelu", 16, 2), 24),
        text_encoder_2=livelier(text_encoder(CLIPTextModelWithProjection, vocab, 2, "gelu", 24, 3, 20), 25),
        unet=unet(23, down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
                  up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"], use_linear_projection=True,
                  transformer_layers_per_block=[1, 2], attention_head_dim=[2, 4], cross_attention_dim=40,
                  addition_embed_type="text_time", addition_time_embed_dim=8,
                  projection_class_embeddings_input_dim=20 + 6 * 8),
        scheduler=EulerDiscreteScheduler(**TRAINED, steps_offset=1, timestep_spacing="leading"),
        force_zeros_for_empty_prompt=True)
    requests = [
        case("plain", "xl-text", guidance_scale=5.0),
        case("negative", "xl-text", negative_prompt="blurry, ugly", height=72, width=56),
        case("sizes", "xl-text", original_size=(128, 96), target_size=(64, 64), crops_coords_top_left=(8, 0),
             num_inference_steps=4),
        case("second", "xl-text", prompt_2="oil painting", negative_prompt="ugly", negative_prompt_2="snow",
             num_inference_steps=4),
        case("turbo", "xl-text", guidance_scale=0.0, num_inference_steps=1, scheduler="EulerAncestralDiscreteScheduler",
             options={"timestep_spacing": "trailing"}),
        case("image", "xl-image", image=(5, 64, 64), strength=0.6),
        case("inpaint", "xl-inpaint", image=(5, 64, 64), mask=(64, 64), strength=0.75, height=64, width=64),
    ] + each_scheduler("xl-text")
    whole(folder, pipe, XL, requests, xl=True)


def refiner(folder):
    torch.manual_seed(1)
    two = tokenizer_into(Path("/tmp/sconce-tokenizer"), "!")
    pipe = StableDiffusionXLImg2ImgPipeline(
        vae=autoencoder(32, force_upcast=True, scaling_factor=0.13025), tokenizer=None, tokenizer_2=two,
        text_encoder=None,
        text_encoder_2=livelier(text_encoder(CLIPTextModelWithProjection, len(two), 2, "gelu", 24, 3, 20), 35),
        unet=unet(33, **SMALL, use_linear_projection=True, attention_head_dim=[2, 4], cross_attention_dim=24,
                  addition_embed_type="text_time", addition_time_embed_dim=8,
                  projection_class_embeddings_input_dim=20 + 5 * 8),
        scheduler=EulerDiscreteScheduler(**TRAINED, steps_offset=1, timestep_spacing="leading"),
        requires_aesthetics_score=True, force_zeros_for_empty_prompt=False)
    saved(pipe, folder)
    requests = [case("image", "xl-image", image=(5, 64, 64), strength=0.3),
                case("scores", "xl-image", image=(5, 64, 64), strength=0.5, aesthetic_score=7.0,
                     negative_aesthetic_score=1.5, negative_prompt="ugly")]
    golden, tensors = {"texts": []}, {}
    with torch.no_grad():
        golden["unet"], found = one_pass(pipe, True)
        tensors |= found
        golden["images"], found = images({"xl-image": StableDiffusionXLImg2ImgPipeline}, pipe, requests)
    write(folder, golden, tensors | found)
    print(folder.name, sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) // 1024, "KiB", flush=True)


def inpaint(folder):
    tokenizer = tokenizer_into(Path("/tmp/sconce-tokenizer"), "<|endoftext|>")
    torch.manual_seed(1)
    pipe = StableDiffusionInpaintPipeline(
        vae=autoencoder(42), tokenizer=tokenizer, unet=unet(43, in_channels=9, **SMALL),
        text_encoder=livelier(text_encoder(CLIPTextModel, len(tokenizer), 2, "quick_gelu", 16, 2), 44),
        scheduler=PNDMScheduler(**TRAINED, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    requests = [case("inpaint", "inpaint", image=(5, 64, 64), mask=(64, 64)),
                case("inpaint-part", "inpaint", image=(5, 70, 60), mask=(70, 60), strength=0.6,
                     negative_prompt="ugly", scheduler="DDIMScheduler")]
    whole(folder, pipe, {"inpaint": StableDiffusionInpaintPipeline}, requests, texts=False)


def lcm(folder):
    """A UNet that is told the guidance, as distilled ones are; with a safety checker, and weights as torch's files."""
    tokenizer = tokenizer_into(Path("/tmp/sconce-tokenizer"), "<|endoftext|>")
    torch.manual_seed(1)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14, "projection_dim": 12}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, text_config={}, projection_dim=12))
    livelier(checker, 56)
    generator = torch.Generator().manual_seed(57)
    with torch.no_grad():
        for weight in [checker.concept_embeds, checker.special_care_embeds]:
            weight.copy_(torch.randn(weight.shape, generator=generator).half().float())
        # Of two pictures that are nearly alike to it one shall be flagged: the thresholds are set between them below.
        checker.concept_embeds_weights.fill_(2.0)
        checker.special_care_embeds_weights.fill_(2.0)
    extractor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    pipe = StableDiffusionPipeline(
        vae=autoencoder(52), tokenizer=tokenizer, unet=unet(53, time_cond_proj_dim=8, **SMALL),
        text_encoder=livelier(text_encoder(CLIPTextModel, len(tokenizer), 2, "quick_gelu", 16, 2), 54),
        scheduler=LCMScheduler(**TRAINED, original_inference_steps=50), safety_checker=checker,
        feature_extractor=extractor)
    pipe.set_progress_bar_config(disable=True)
    requests = [case("plain", "text", guidance_scale=8.0, num_inference_steps=4),
                case("other", "text", prompt=PROMPTS[2], guidance_scale=4.0, num_inference_steps=4, seed=8)]

    def likeness(request):
        arguments = dict(request["parameters"])
        found = pipe(prompt=request["prompt"], output_type="np",
                     generator=torch.Generator().manual_seed(arguments.pop("seed")), **arguments).images
        inputs = extractor(pipe.image_processor.numpy_to_pil(found), return_tensors="pt").pixel_values
        from diffusers.pipelines.stable_diffusion.safety_checker import cosine_distance
        with torch.no_grad():
            vector = checker.visual_projection(checker.vision_model(inputs)[1])
            return cosine_distance(vector, checker.concept_embeds)[0]

    one, two = likeness(requests[0]), likeness(requests[1])
    at = int((two - one).argmax())
    between = float((one[at] + two[at]) / 2)
    print("likeness", float(one[at]), float(two[at]))
    with torch.no_grad():
        checker.concept_embeds_weights[at] = torch.tensor(between).half().float()
    whole(folder, pipe, SD, requests, texts=False)
    for file in folder.glob("*/*.safetensors"):
        if file.parent.name in ("vae", "text_encoder"):
            from safetensors.torch import load_file
            name = {"vae": "diffusion_pytorch_model.bin", "text_encoder": "pytorch_model.bin"}[file.parent.name]
            torch.save(load_file(file), file.with_name(name))
            file.unlink()


def shards(folder):
    """Weights in bfloat16, and cut into shards."""
    tokenizer = tokenizer_into(Path("/tmp/sconce-tokenizer"), "<|endoftext|>")
    torch.manual_seed(1)
    pipe = StableDiffusionPipeline(
        vae=autoencoder(62), tokenizer=tokenizer, unet=unet(63, **SMALL),
        text_encoder=livelier(text_encoder(CLIPTextModel, len(tokenizer), 2, "quick_gelu", 16, 2), 64),
        scheduler=EulerDiscreteScheduler(**TRAINED, steps_offset=1, timestep_spacing="leading"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    requests = [case("plain", "text"), case("image", "image", image=(5, 64, 64), strength=0.6)]
    whole(folder, pipe, SD, requests, dtype=torch.bfloat16, shard="40KB")


def trajectory(kind, options, steps, tensors, name):
    scheduler = kind(**{**TRAINED, **options})
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(3)
    source = torch.Generator().manual_seed(99)
    shape = (1, 4, 2, 3)
    sample = torch.randn(shape, generator=source)
    outputs, scaled, samples = [], [], []
    tensors[f"{name}.first"] = sample
    sample = sample * scheduler.init_noise_sigma
    takes = "generator" in scheduler.step.__code__.co_varnames
    for time in scheduler.timesteps:
        scaled.append(scheduler.scale_model_input(sample, time))
        output = torch.randn(shape, generator=source)
        outputs.append(output)
        sample = scheduler.step(output, time, sample, **({"generator": generator} if takes else {})).prev_sample
        samples.append(sample)
    tensors |= {f"{name}.outputs": torch.stack(outputs), f"{name}.scaled": torch.stack(scaled),
                f"{name}.samples": torch.stack(samples)}
    tensors[f"{name}.noised"] = noised(kind, options, steps, shape)
    return {"name": name, "class": kind.__name__, "config": {**TRAINED, **options}, "steps": steps,
            "timesteps": [float(time) for time in scheduler.timesteps],
            "init_noise_sigma": float(scheduler.init_noise_sigma)}


def noised(kind, options, steps, shape):
    """An image with noise as a request of strength 0.5 begins, computed as pipelines do."""
    scheduler = kind(**{**TRAINED, **options})
    scheduler.set_timesteps(steps)
    start = max(steps - min(int(steps * 0.5), steps), 0)
    times = scheduler.timesteps[start * scheduler.order:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start * scheduler.order)
    source = torch.Generator().manual_seed(98)
    image, noise = torch.randn(shape, generator=source), torch.randn(shape, generator=source)
    return torch.stack([image, noise, scheduler.add_noise(image, noise, times[:1])])


def schedulers(folder):
    folder.mkdir(exist_ok=True)
    v, sample = {"prediction_type": "v_prediction"}, {"prediction_type": "sample"}
    spacings = [{"timestep_spacing": spacing} for spacing in ("linspace", "leading", "trailing")]
    sigmas = [{"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}]
    cosine, linear = {"beta_schedule": "squaredcos_cap_v2"}, {"beta_schedule": "linear"}
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **v}
    final = {"final_sigmas_type": "sigma_min"}
    offset = {"steps_offset": 1, "timestep_spacing": "leading"}
    wanted = {
        PNDMScheduler: [{"skip_prk_steps": True, "steps_offset": 1}, {}, {**v, "skip_prk_steps": True},
                        {"skip_prk_steps": True, "set_alpha_to_one": True, **linear}, *spacings],
        DDIMScheduler: [{"clip_sample": False}, {}, {**v, **offset, "set_alpha_to_one": False, "clip_sample": False},
                        sample, zero, cosine, *spacings,
                        {"thresholding": True, "sample_max_value": 2.0}],
        DDPMScheduler: [{"clip_sample": False}, {}, v, sample, {"variance_type": "fixed_large"}, cosine,
                        {"variance_type": "fixed_small_log"}, *spacings],
        EulerDiscreteScheduler: [{}, v, sample, offset, *spacings, *sigmas, zero, final,
                                 {"interpolation_type": "log_linear"}, {**v, "timestep_type": "continuous"},
                                 {"use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 10.0}],
        EulerAncestralDiscreteScheduler: [{}, v, offset, *spacings, zero, cosine],
        DPMSolverMultistepScheduler: [
            {}, v, sample, offset, *spacings, *sigmas, zero, final, {"solver_order": 1}, {"solver_order": 3},
            {"solver_order": 3, "use_karras_sigmas": True}, {"solver_type": "heun"}, {"euler_at_final": True},
            {"lower_order_final": False, **final}, {"algorithm_type": "dpmsolver", **final},
            {"algorithm_type": "dpmsolver", "solver_order": 3, **final},
            {"algorithm_type": "sde-dpmsolver++"}, {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
            {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun", **v},
            {"algorithm_type": "sde-dpmsolver", **final}, {"use_lu_lambdas": True},
            {**cosine, "lambda_min_clipped": -5.1}, {"thresholding": True}],
        UniPCMultistepScheduler: [{}, v, sample, offset, *spacings, *sigmas, zero, {"solver_order": 1},
                                  {"solver_order": 3}, {"solver_type": "bh1"}, {"predict_x0": False, **final},
                                  {"disable_corrector": [0, 2]}, {"lower_order_final": False, **final}, final],
        LMSDiscreteScheduler: [{}, v, sample, *spacings, *sigmas],
        HeunDiscreteScheduler: [{}, v, *spacings, *sigmas, {**sample}, {"clip_sample": True}],
        LCMScheduler: [{}, v, {"clip_sample": True}, {"original_inference_steps": 100, "timestep_scaling": 5.0}],
    }
    told, tensors = [], {}
    for kind, all_options in wanted.items():
        for options in all_options:
            for steps in (9, 4) if not options else (9,):
                if kind is PNDMScheduler and not options.get("skip_prk_steps") and steps < 9:
                    continue
                name = f"{len(told)}"
                told.append(trajectory(kind, options, steps, tensors, name))
    write(folder, {"trajectories": told}, tensors)
    print("schedulers", len(told), (folder / "golden.safetensors").stat().st_size // 1024, "KiB", flush=True)


def generator(file):
    """Normal numbers as hexadecimal bits: seeds, and the lengths that are drawn one after the other."""
    cases = []
    for seed, lengths in [(0, [1, 1, 2, 5, 15, 16, 3]), (7, [16, 17, 31, 32, 33]), (2**32 + 7, [40]), (2**63, [5, 20]),
                          (42, [700])]:
        drawn = torch.Generator().manual_seed(seed)
        numbers = [torch.randn(length, generator=drawn).numpy().view(np.uint32).tolist() for length in lengths]
        cases.append({"seed": str(seed), "draws": [[f"{bits:08x}" for bits in draw] for draw in numbers]})
    file.write_text(json.dumps({"made with": versions(), "cases": cases}) + "\n")


ALL = {"sd1": sd1, "sd2": sd2, "sdxl": sdxl, "sdxl-refiner": refiner, "inpaint": inpaint, "lcm": lcm, "shards": shards,
       "schedulers": schedulers}

if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    names = sys.argv[1:] or list(ALL)
    if "generator" in names or not sys.argv[1:]:
        generator(HERE / "generator.json")
    for name in names:
        if name in ALL:
            ALL[name](HERE / name)
