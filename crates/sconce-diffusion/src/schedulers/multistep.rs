//! Noises and time steps of solvers that work with latents `alpha * image + sigma * noise`: DPM-Solver and UniPC.

use sconce_models::ConfigError;

use super::config::{Config, Spacing};
use super::spacing::{Curve, interpolate, multistep, timestep_of};
use super::vectors::sum;

/// What a step of such a solver is computed from.
pub(super) struct Levels {
    /// Noise beside the image, one more than steps.
    sigmas: Vec<f32>,
    pub(super) timesteps: Vec<f32>,
}

/// The share of the image, that of the noise, and half the logarithm of their squares' ratio.
#[derive(Clone, Copy)]
pub(super) struct Level {
    pub(super) alpha: f32,
    pub(super) sigma: f32,
    pub(super) lambda: f32,
}

/// What the two classes do differently.
pub(super) struct Habits {
    /// Steps of the training that are used.
    pub(super) last: usize,
    /// Whether time steps of curves are rounded; else they are cut.
    pub(super) rounds: [bool; 3],
    /// Whether the noise that remains is that of the curve rather than the least of the training.
    pub(super) remains_of_curve: bool,
    pub(super) knows_lu: bool,
    pub(super) knows_ends: bool,
}

impl Levels {
    pub(super) fn read(
        config: &Config,
        steps: usize,
        habits: &Habits,
    ) -> Result<Self, ConfigError> {
        config.require_steps(steps)?;
        config
            .keys
            .refuse_unless("final_sigmas_type", &["zero", "sigma_min"])?;
        let spacing = config.spacing(Spacing::Linspace)?;
        let curve = Curve::read(config, habits.knows_lu)?;
        let table = config
            .trained
            .clone()
            .with_finite_end(config.rescaled)
            .sigmas();
        let mut times = multistep(config, spacing, (steps, habits.last));
        let mut sigmas: Vec<f64> = times.iter().map(|at| interpolate(&table, *at)).collect();
        if curve != Curve::Timesteps {
            let end = |key: &str, found: f64| -> Result<f64, ConfigError> {
                if !habits.knows_ends {
                    return Ok(found);
                }
                let told = config.keys.optional_float(key, Some(found))?;
                Ok(told.unwrap_or(found))
            };
            let most = end("sigma_max", f64::from(table[table.len() - 1]))?;
            sigmas = curve.between(most, end("sigma_min", f64::from(table[0]))?, steps);
            let rounds = match curve {
                Curve::Karras => habits.rounds[0],
                Curve::Lu => habits.rounds[1],
                _ => habits.rounds[2],
            };
            let time = |sigma: &f64| {
                let at = timestep_of(*sigma, &table);
                if rounds {
                    at.round_ties_even()
                } else {
                    at.trunc()
                }
            };
            times = sigmas.iter().map(time).collect();
        }
        let last = match config.keys.text("final_sigmas_type").as_deref() {
            Some("sigma_min") if habits.remains_of_curve && curve != Curve::Timesteps => {
                sigmas[sigmas.len() - 1] as f32
            }
            Some("sigma_min") => table[0],
            _ => 0.0,
        };
        let mut sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
        sigmas.push(last);
        Ok(Self {
            sigmas,
            timesteps: times.into_iter().map(|at| at as f32).collect(),
        })
    }

    /// Steps.
    pub(super) fn len(&self) -> usize {
        self.timesteps.len()
    }

    /// Before the step `at`.
    pub(super) fn level(&self, at: usize) -> Level {
        let beside = self.sigmas[at];
        let alpha = 1.0 / (beside * beside + 1.0).sqrt();
        let sigma = beside * alpha;
        Level {
            alpha,
            sigma,
            lambda: alpha.ln() - sigma.ln(),
        }
    }

    pub(super) fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        let level = self.level(at);
        sum(&[(level.alpha, image), (level.sigma, noise)])
    }
}
