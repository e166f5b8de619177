"""Weights as ggml's blocks of fewer bits keep them, for the scripts that make goldens of quantised models.

Which matrices are rounded, and to what, is the rule of option.quantize: layers and the embedding of tokens to the format,
output projections and embeddings that one is tied to with more bits; tables of positions and heads of tasks stay.
"""

import copy

import torch
from gguf import GGMLQuantizationType as Format
from gguf import quants

# The formats for rows that do not fill blocks of 256.
LAYERS = {"int8": Format.Q8_0, "int4": Format.Q4_0}
HEADS = {"int8": Format.Q8_0, "int4": Format.Q8_0}


@torch.no_grad()
def rounded(model, name, whole, heads):
    """A copy of the model with its matrices rounded, but for those with one of `whole` in their names."""
    model = copy.deepcopy(model)
    done = set()
    for key, weight in model.named_parameters():
        if weight.dim() != 2 or weight.data_ptr() in done or any(part in key for part in whole):
            continue
        kind = (HEADS if any(part in key for part in heads) else LAYERS)[name]
        blocks = quants.quantize(weight.float().numpy(), kind)
        weight.copy_(torch.from_numpy(quants.dequantize(blocks, kind)))
        done.add(weight.data_ptr())
    return model
