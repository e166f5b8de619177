//! Layers, attention, cache, weights, collectives, kernels.
