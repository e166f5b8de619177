//! Noise as torch draws it on the CPU, so that a seed gives the picture that it gives in diffusers.

mod normal;
mod twister;

pub use normal::Generator;
