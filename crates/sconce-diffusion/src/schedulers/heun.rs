//! `HeunDiscreteScheduler`: algorithm 2 of Karras et al. (2022), two predictions for every step but the last.

use sconce_models::ConfigError;

use super::config::{Config, Limit, Prediction};
use super::euler::{Beside, input_scale};
use super::spacing::Curve;
use super::vectors::sum;
use super::{Moment, Rule, Ruled};

struct Heun {
    /// All but the first and the last twice.
    sigmas: Vec<f32>,
    prediction: Prediction,
    limit: Limit,
    /// Derivative, latents and change of the noise of a step that is half made.
    half: Option<(Vec<f32>, Vec<f32>, f32)>,
}

pub(super) fn make(config: &Config, steps: usize) -> Result<Ruled, ConfigError> {
    let curve = Curve::read(config, false)?;
    let others = [
        "interpolation_type",
        "final_sigmas_type",
        "sigma_min",
        "sigma_max",
    ];
    let found = Beside::read(&config.without(&others), steps, curve)?;
    let (first, rest) = found.timesteps.split_at(1);
    let timesteps = [first, &twice(rest)].concat();
    let inner = &found.sigmas[1..found.sigmas.len() - 1];
    let ends = [found.sigmas[0], found.sigmas[found.sigmas.len() - 1]];
    let limit = match config.keys.flag("clip_sample", false)? {
        true => Limit::Clip(config.keys.float("clip_sample_range", 1.0)? as f32),
        false => Limit::None,
    };
    Ok(Ruled {
        timesteps,
        noise_sigma: found.noise_sigma,
        order: 2,
        rule: Box::new(Heun {
            sigmas: [&ends[..1], &twice(inner), &ends[1..]].concat(),
            prediction: config.prediction,
            limit,
            half: None,
        }),
    })
}

fn twice(all: &[f32]) -> Vec<f32> {
    all.iter().flat_map(|x| [*x, *x]).collect()
}

impl Rule for Heun {
    fn scale(&self, at: usize) -> f32 {
        input_scale(self.sigmas[at])
    }

    fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32> {
        // Of a second half this is the noise of its end, which the first half has come to.
        let sigma = self.sigmas[at];
        let mut image = self
            .prediction
            .image_beside(moment.output, moment.sample, sigma);
        self.limit.apply(&mut image, moment.images);
        let derivative = sum(&[(1.0 / sigma, moment.sample), (-1.0 / sigma, &image)]);
        match self.half.take() {
            None => {
                let change = self.sigmas[at + 1] - sigma;
                let after = sum(&[(1.0, moment.sample), (change, &derivative)]);
                self.half = Some((derivative, moment.sample.to_vec(), change));
                after
            }
            Some((first, sample, change)) => {
                let half = 0.5 * change;
                sum(&[(1.0, &sample), (half, &first), (half, &derivative)])
            }
        }
    }

    fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        sum(&[(1.0, image), (self.sigmas[at], noise)])
    }
}
