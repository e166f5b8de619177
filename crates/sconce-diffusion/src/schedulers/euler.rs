//! `EulerDiscreteScheduler` and `EulerAncestralDiscreteScheduler`: algorithm 2 of Karras et al. (2022) without churn, and
//! the same with new noise at each step.

use sconce_models::ConfigError;

use super::config::{Config, Prediction, Spacing};
use super::spacing::{Curve, interpolate, log_linear, timestep_of, timesteps};
use super::vectors::sum;
use super::{Moment, Rule, Ruled};

/// Noises and time steps of a solver that works with noise beside the image.
pub(super) struct Beside {
    /// One more than steps.
    pub(super) sigmas: Vec<f32>,
    pub(super) timesteps: Vec<f32>,
    pub(super) noise_sigma: f32,
}

impl Beside {
    /// With the keys that Euler's, Heun's and the linear multistep method have in common.
    pub(super) fn read(config: &Config, steps: usize, curve: Curve) -> Result<Self, ConfigError> {
        config.require_steps(steps)?;
        let spacing = config.spacing(Spacing::Linspace)?;
        let table = config
            .trained
            .clone()
            .with_finite_end(config.rescaled)
            .sigmas();
        // numpy rounds them to f32 before it looks up noises.
        let mut times: Vec<f64> = timesteps(config, spacing, steps)
            .into_iter()
            .map(|at| f64::from(at as f32))
            .collect();
        let mut sigmas: Vec<f64> = times.iter().map(|at| interpolate(&table, *at)).collect();
        if config.keys.text("interpolation_type").as_deref() == Some("log_linear") {
            sigmas = log_linear(&table, steps);
        }
        if curve != Curve::Timesteps {
            let end = |key: &str, found: f64| config.keys.optional_float(key, Some(found));
            let most = end("sigma_max", sigmas[0])?.unwrap_or(sigmas[0]);
            let last = sigmas[sigmas.len() - 1];
            let least = end("sigma_min", last)?.unwrap_or(last);
            sigmas = curve.between(most, least, steps);
            times = sigmas
                .iter()
                .map(|sigma| timestep_of(*sigma, &table))
                .collect();
        }
        let mut sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
        let keeps_noise = config.keys.text("final_sigmas_type").as_deref() == Some("sigma_min");
        sigmas.push(if keeps_noise { table[0] } else { 0.0 });
        let most = sigmas.iter().copied().fold(0.0, f32::max);
        Ok(Self {
            noise_sigma: match spacing {
                Spacing::Leading => (most * most + 1.0).sqrt(),
                _ => most,
            },
            timesteps: times.into_iter().map(|at| at as f32).collect(),
            sigmas,
        })
    }
}

struct Euler {
    sigmas: Vec<f32>,
    prediction: Prediction,
    ancestral: bool,
}

pub(super) fn make(config: &Config, steps: usize) -> Result<Ruled, ConfigError> {
    let keys = &config.keys;
    keys.refuse_unless("interpolation_type", &["linear", "log_linear"])?;
    keys.refuse_unless("timestep_type", &["discrete", "continuous"])?;
    keys.refuse_unless("final_sigmas_type", &["zero", "sigma_min"])?;
    let mut found = Beside::read(config, steps, Curve::read(config, false)?)?;
    let continuous = keys.text("timestep_type").as_deref() == Some("continuous");
    if continuous && config.prediction == Prediction::Velocity {
        let before_last = &found.sigmas[..found.sigmas.len() - 1];
        found.timesteps = before_last.iter().map(|sigma| 0.25 * sigma.ln()).collect();
    }
    Ok(ruled(config, found, false))
}

pub(super) fn make_ancestral(config: &Config, steps: usize) -> Result<Ruled, ConfigError> {
    let predictions = ["epsilon", "v_prediction"];
    config.keys.refuse_unless("prediction_type", &predictions)?;
    // Keys of other classes say nothing to this one.
    let plain = config.without(&["interpolation_type", "final_sigmas_type"]);
    let found = Beside::read(&plain, steps, Curve::Timesteps)?;
    Ok(ruled(config, found, true))
}

fn ruled(config: &Config, found: Beside, ancestral: bool) -> Ruled {
    Ruled {
        timesteps: found.timesteps,
        noise_sigma: found.noise_sigma,
        order: 1,
        rule: Box::new(Euler {
            sigmas: found.sigmas,
            prediction: config.prediction,
            ancestral,
        }),
    }
}

/// The factor of latents with that noise beside the image.
pub(super) fn input_scale(sigma: f32) -> f32 {
    1.0 / (sigma * sigma + 1.0).sqrt()
}

impl Rule for Euler {
    fn scale(&self, at: usize) -> f32 {
        input_scale(self.sigmas[at])
    }

    fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32> {
        let (sigma, next) = (self.sigmas[at], self.sigmas[at + 1]);
        let sample = moment.sample;
        let image = self.prediction.image_beside(moment.output, sample, sigma);
        // The derivative is (sample - image) / sigma.
        let to = |down: f32| {
            let change = (down - sigma) / sigma;
            sum(&[(1.0 + change, sample), (-change, &image)])
        };
        if !self.ancestral {
            return to(next);
        }
        let (from, until) = (sigma * sigma, next * next);
        let up = (until * (from - until) / from).sqrt();
        let down = (until - up * up).max(0.0).sqrt();
        sum(&[(1.0, &to(down)), (up, &(moment.noise)())])
    }

    fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        sum(&[(1.0, image), (self.sigmas[at], noise)])
    }
}
