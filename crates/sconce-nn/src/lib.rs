//! Layers, attention, cache, weights, collectives, kernels.

pub mod weights;
