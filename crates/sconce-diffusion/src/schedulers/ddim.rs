//! `DDIMScheduler`: denoising diffusion implicit models (Song et al., 2021), with as much new noise as `eta` says.

use sconce_models::ConfigError;

use super::config::{Config, Limit, Prediction, Spacing};
use super::trained::Trained;
use super::vectors::sum;
use super::{Moment, Rule, Ruled, spacing};

struct Ddim {
    trained: Trained,
    last_alpha: f32,
    prediction: Prediction,
    limit: Limit,
    stride: i64,
    timesteps: Vec<i64>,
    eta: f32,
}

pub(super) fn make(config: &Config, steps: usize) -> Result<Ruled, ConfigError> {
    config.require_steps(steps)?;
    let found = spacing::timesteps(config, config.spacing(Spacing::Leading)?, steps);
    let timesteps: Vec<i64> = found.iter().map(|at| at.round_ties_even() as i64).collect();
    let one = config.keys.flag("set_alpha_to_one", true)?;
    Ok(Ruled {
        timesteps: timesteps.iter().map(|at| *at as f32).collect(),
        noise_sigma: 1.0,
        order: 1,
        rule: Box::new(Ddim {
            last_alpha: if one { 1.0 } else { config.trained.alphas[0] },
            trained: config.trained.clone(),
            prediction: config.prediction,
            limit: config.limit(true)?,
            stride: (config.trained.steps() / steps) as i64,
            timesteps,
            eta: config.eta as f32,
        }),
    })
}

impl Rule for Ddim {
    /// Formulas 12 and 16 of the paper.
    fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32> {
        let now = self.timesteps[at];
        let alpha = self.trained.alpha(now, self.last_alpha);
        let alpha_before = self.trained.alpha(now - self.stride, self.last_alpha);
        let (root, noisy) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (output, sample) = (moment.output, moment.sample);
        let noise = self.prediction.noise(output, sample, root, noisy);
        let mut image = self.prediction.image(output, sample, root, noisy);
        self.limit.apply(&mut image, moment.images);
        let variance = (1.0 - alpha_before) / (1.0 - alpha) * (1.0 - alpha / alpha_before);
        let spread = self.eta * variance.sqrt();
        let direction = (1.0 - alpha_before - spread * spread).sqrt();
        let after = sum(&[(alpha_before.sqrt(), &image), (direction, &noise)]);
        if self.eta > 0.0 {
            return sum(&[(1.0, &after), (spread, &(moment.noise)())]);
        }
        after
    }

    fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        self.trained.noised(self.timesteps[at], image, noise)
    }
}
