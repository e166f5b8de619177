//! `DDPMScheduler`: denoising diffusion probabilistic models (Ho et al., 2020).

use sconce_models::ConfigError;

use super::config::{Config, Limit, Prediction, Spacing};
use super::trained::Trained;
use super::vectors::sum;
use super::{Moment, Rule, Ruled, spacing};

/// How much new noise a step brings.
#[derive(Clone, Copy, PartialEq)]
enum Variance {
    Small,
    /// The logarithm of its root is taken and undone.
    SmallLog,
    Large,
}

struct Ddpm {
    trained: Trained,
    prediction: Prediction,
    limit: Limit,
    variance: Variance,
    timesteps: Vec<i64>,
}

pub(super) fn make(config: &Config, steps: usize) -> Result<Ruled, ConfigError> {
    config.require_steps(steps)?;
    let variances = ["fixed_small", "fixed_small_log", "fixed_large"];
    config.keys.refuse_unless("variance_type", &variances)?;
    let found = spacing::timesteps(config, config.spacing(Spacing::Leading)?, steps);
    let timesteps: Vec<i64> = found.iter().map(|at| at.round_ties_even() as i64).collect();
    Ok(Ruled {
        timesteps: timesteps.iter().map(|at| *at as f32).collect(),
        noise_sigma: 1.0,
        order: 1,
        rule: Box::new(Ddpm {
            trained: config.trained.clone(),
            prediction: config.prediction,
            limit: config.limit(true)?,
            variance: match config.keys.text("variance_type").as_deref() {
                Some("fixed_large") => Variance::Large,
                Some("fixed_small_log") => Variance::SmallLog,
                _ => Variance::Small,
            },
            timesteps,
        }),
    })
}

impl Rule for Ddpm {
    /// Formula 7 of the paper.
    fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32> {
        let now = self.timesteps[at];
        let before = self.timesteps.get(at + 1).copied().unwrap_or(-1);
        let alpha = self.trained.alpha(now, 1.0);
        let alpha_before = self.trained.alpha(before, 1.0);
        let (beta, beta_before) = (1.0 - alpha, 1.0 - alpha_before);
        let current = alpha / alpha_before;
        let (output, sample) = (moment.output, moment.sample);
        let mut image = self
            .prediction
            .image(output, sample, alpha.sqrt(), beta.sqrt());
        self.limit.apply(&mut image, moment.images);
        let of_image = alpha_before.sqrt() * (1.0 - current) / beta;
        let of_sample = current.sqrt() * beta_before / beta;
        let after = sum(&[(of_image, &image), (of_sample, sample)]);
        if now == 0 {
            return after;
        }
        let small = (beta_before / beta * (1.0 - current)).max(1e-20);
        let spread = match self.variance {
            Variance::Small => small.sqrt(),
            Variance::SmallLog => (0.5 * small.ln()).exp(),
            Variance::Large => (1.0 - current).sqrt(),
        };
        sum(&[(1.0, &after), (spread, &(moment.noise)())])
    }

    fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        self.trained.noised(self.timesteps[at], image, noise)
    }
}
