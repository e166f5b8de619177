//! Schedulers: which time steps a picture is denoised at, and how a prediction makes latents less noisy.
//!
//! Each is the class of diffusers of that name, driven by `scheduler_config.json`, and one file. Numbers of single steps
//! are f32 as they are there; latents are whatever order the caller has, for nothing here depends on it.

mod config;
mod ddim;
mod ddpm;
mod dpm;
mod euler;
mod heun;
mod lcm;
mod lms;
mod multistep;
mod pndm;
mod spacing;
#[cfg(test)]
mod tests;
mod trained;
mod unipc;
mod vectors;

use sconce_models::{ConfigError, HfConfig};

use config::Config;

/// How one step is made.
trait Rule: Send {
    /// Factor of latents before the UNet sees them.
    fn scale(&self, _at: usize) -> f32 {
        1.0
    }

    /// Latents after the step `at`.
    fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32>;

    /// An image as it is before the step `at`, with that noise.
    fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32>;
}

/// What a step has.
pub(crate) struct Moment<'a> {
    /// What the UNet predicted.
    pub(crate) output: &'a [f32],
    /// Latents before the step.
    pub(crate) sample: &'a [f32],
    /// Images that both are of.
    pub(crate) images: usize,
    /// Draws as many normal numbers as there are latents.
    pub(crate) noise: &'a mut dyn FnMut() -> Vec<f32>,
}

/// A rule with its time steps.
struct Ruled {
    /// Time steps, noisiest first.
    timesteps: Vec<f32>,
    /// Spread of the noise that latents begin as.
    noise_sigma: f32,
    /// Time steps for each step that was asked for, but for the last.
    order: usize,
    rule: Box<dyn Rule>,
}

type Make = fn(&Config, usize) -> Result<Ruled, ConfigError>;

/// The classes of diffusers.
const CLASSES: [(&str, Make); 10] = [
    ("PNDMScheduler", pndm::make),
    ("DDIMScheduler", ddim::make),
    ("DDPMScheduler", ddpm::make),
    ("EulerDiscreteScheduler", euler::make),
    ("EulerAncestralDiscreteScheduler", euler::make_ancestral),
    ("DPMSolverMultistepScheduler", dpm::make),
    ("UniPCMultistepScheduler", unipc::make),
    ("LMSDiscreteScheduler", lms::make),
    ("HeunDiscreteScheduler", heun::make),
    ("LCMScheduler", lcm::make),
];

/// The names of all that are implemented.
pub fn names() -> impl Iterator<Item = &'static str> {
    CLASSES.iter().map(|(name, _)| *name)
}

/// Whether there is one of that name.
pub(crate) fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

/// A scheduler for one request.
pub(crate) struct Scheduler {
    ruled: Ruled,
}

impl Scheduler {
    /// The one that `config` names, for so many steps; `eta` is that of DDIM.
    ///
    /// Fails on what is not implemented, and on more steps than it was trained with.
    pub(crate) fn new(config: &HfConfig, steps: usize, eta: f64) -> Result<Self, ConfigError> {
        let name = config.text("_class_name").unwrap_or_default();
        let Some((_, make)) = CLASSES.iter().find(|(known, _)| *known == name) else {
            let all: Vec<&str> = names().collect();
            config.refuse_unless("_class_name", &all)?;
            return Err(config.absent("_class_name", "the class of a scheduler"));
        };
        let config = Config::read(config, eta)?;
        Ok(Self {
            ruled: make(&config, steps)?,
        })
    }

    /// Time steps, noisiest first.
    pub(crate) fn timesteps(&self) -> &[f32] {
        &self.ruled.timesteps
    }

    /// Spread of the noise that latents begin as.
    pub(crate) fn noise_sigma(&self) -> f32 {
        self.ruled.noise_sigma
    }

    /// Where a request begins that keeps something of an image: only the last `strength` of `steps` are made.
    pub(crate) fn begin(&self, steps: usize, strength: f64) -> usize {
        let kept = ((steps as f64 * strength) as usize).min(steps);
        ((steps - kept) * self.ruled.order).min(self.ruled.timesteps.len())
    }

    /// Factor of latents before the UNet sees them.
    pub(crate) fn scale(&self, at: usize) -> f32 {
        self.ruled.rule.scale(at)
    }

    /// Latents after the step `at`. Steps are made in their order, from wherever the first is.
    pub(crate) fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32> {
        self.ruled.rule.step(at, moment)
    }

    /// An image as it is before the step `at`, with that noise.
    pub(crate) fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        self.ruled.rule.noised(at, image, noise)
    }
}
