//! Pictures from texts: Stable Diffusion 1, 2 and XL, from pictures too, and within masks.
//!
//! [`DiffusionEngine`] is a [`sconce_core::Backend`]. At the door a request becomes a `Drawing`: tokens, decoded pictures,
//! a scheduler for its steps. The engine's thread repeats: take in requests while there is room, read what they say,
//! make one step of denoising for those of one size together, and give a picture to each that is done. So requests join
//! and leave at any step, and a picture does not depend on those beside it: every row has noise, time step and scheduler of
//! its own, and layers whose bits do not depend on the batch.
//!
//! The models are `sconce-models`', the forms on the wire are `sconce-api`'s. What pictures are compared with is diffusers
//! with torch's generator on the CPU: `models/diffusion`.

#[cfg(test)]
mod clients;
mod conditions;
mod description;
mod door;
mod drawing;
mod engine;
mod error;
mod extractor;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod goldens;
mod guidance;
mod memory;
mod models;
mod picture;
mod random;
mod resample;
mod running;
mod schedulers;
mod settings;
mod tensors;
mod worker;

pub use description::{DiffusionDescription, DiffusionOverview};
pub use engine::DiffusionEngine;
pub use error::DiffusionError;
pub use random::Generator;
pub use schedulers::names as scheduler_names;
pub use settings::{DiffusionSettings, Spare};
