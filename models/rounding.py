"""Weights as blocks of fewer bits keep them, ggml's or bytes with one scale for a row, for the scripts that make goldens of quantised models.

Which matrices are rounded, and to what, is the rule of option.quantize: layers and the embedding of tokens to the format,
output projections and embeddings that one is tied to with more bits; tables of positions and heads of tasks stay.
"""

import copy

import numpy
import torch
from gguf import GGMLQuantizationType as Format
from gguf import quants

# The formats for rows that do not fill blocks of 256; `None`: one scale for a row.
LAYERS = {"int8": None, "int4": Format.Q4_0}
HEADS = {"int8": Format.Q8_0, "int4": Format.Q8_0}


def round_rows(weight):
    """Bytes around zero with one scale for a row, an f16 number."""
    scales = (numpy.abs(weight).max(axis=1, keepdims=True) / numpy.float32(127)).astype(numpy.float16).astype(numpy.float32)
    multiples = numpy.divide(weight, scales, out=numpy.zeros_like(weight), where=scales > 0)
    return numpy.clip(numpy.rint(multiples), -127, 127) * scales


def round_blocks(weight, kind):
    return quants.dequantize(quants.quantize(weight, kind), kind)


@torch.no_grad()
def rounded(model, name, whole, heads):
    """A copy of the model with its matrices rounded, but for those with one of `whole` in their names."""
    model = copy.deepcopy(model)
    done = set()
    for key, weight in model.named_parameters():
        if weight.dim() != 2 or weight.data_ptr() in done or any(part in key for part in whole):
            continue
        kind = (HEADS if any(part in key for part in heads) else LAYERS)[name]
        numbers = weight.float().numpy()
        weight.copy_(torch.from_numpy(round_blocks(numbers, kind) if kind else round_rows(numbers)))
        done.add(weight.data_ptr())
    return model
