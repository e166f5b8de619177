//! The layers' computations on GPUs of NVIDIA. Kernels are CUDA's C++ beside this file; products are cuBLAS's. Numbers are f32, f16 or bf16, the same for weights and activations; every sum is f32. Which layer computes
//! what, and its checks of shapes, are the layers'.
//!
//! Products of cuBLAS choose their order of sums by the number of rows, so here a token's bits depend on the size of its
//! batch; those of all other kernels do not.

mod arena;
mod attend;
mod gpu;
mod layers;
mod numbers;
mod pick;
mod replay;
mod step;

pub(crate) use attend::{Sizes, attend, reserve, write};
pub(crate) use gpu::{Gpu, apart, list, memory, open};
pub(crate) use layers::{
    NormWeights, RowSums, act, add, clip, columns, embed, gather, linear, multiply, norm, rows,
    scale, side_by_side, upload,
};
pub(crate) use numbers::{address, to_host};
pub(crate) use pick::scores;
pub(crate) use replay::Replays;
pub(crate) use step::OnGpu;

/// Says that the next layer of a recorded step begins.
pub(crate) fn next_layer(device: &candle_core::Device) {
    if let Some(arena) = device.as_cuda_device().ok().and_then(arena::Arena::of) {
        arena.turn();
    }
}
