//! The computations below the layers, on plain slices, one folder per kind of device.
//! Shapes are checked above, in the layers.

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
#[path = "cuda/tests/mod.rs"]
mod cuda_on_the_host;
