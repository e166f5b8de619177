//! `LCMScheduler`: multistep sampling of latent consistency models (Luo et al., 2023).

use sconce_models::ConfigError;

use super::config::{Config, Limit, Prediction};
use super::trained::Trained;
use super::vectors::sum;
use super::{Moment, Rule, Ruled};

/// Spread of the data that models were distilled with.
const SIGMA_DATA: f32 = 0.5;

struct Lcm {
    trained: Trained,
    last_alpha: f32,
    prediction: Prediction,
    limit: Limit,
    timesteps: Vec<i64>,
    scaling: f32,
}

pub(super) fn make(config: &Config, steps: usize) -> Result<Ruled, ConfigError> {
    let trained = config.trained.steps();
    let original = config.keys.size_or("original_inference_steps", 50)?;
    let most = original.min(trained);
    if !(1..=most).contains(&steps) {
        let wanted = format!("1 to {most}, as many as original_inference_steps");
        return Err(config
            .keys
            .out_of_range("num_inference_steps", steps, wanted));
    }
    let ratio = (trained / original) as i64;
    // Downwards, evenly spread places of them.
    let of = |place: usize| (original - place) as i64 * ratio - 1;
    let place = |index: usize| (index as f64 * (original as f64 / steps as f64)).floor() as usize;
    let timesteps: Vec<i64> = (0..steps).map(|index| of(place(index))).collect();
    let one = config.keys.flag("set_alpha_to_one", true)?;
    Ok(Ruled {
        timesteps: timesteps.iter().map(|at| *at as f32).collect(),
        noise_sigma: 1.0,
        order: 1,
        rule: Box::new(Lcm {
            last_alpha: if one { 1.0 } else { config.trained.alphas[0] },
            trained: config.trained.clone(),
            prediction: config.prediction,
            limit: config.limit(false)?,
            timesteps,
            scaling: config.keys.float("timestep_scaling", 10.0)? as f32,
        }),
    })
}

impl Rule for Lcm {
    fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32> {
        let now = self.timesteps[at];
        let before = self.timesteps.get(at + 1).copied();
        let alpha = self.trained.alpha(now, self.last_alpha);
        let (output, sample) = (moment.output, moment.sample);
        let (root, noisy) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let mut image = self.prediction.image(output, sample, root, noisy);
        self.limit.apply(&mut image, moment.images);
        let scaled = now as f32 * self.scaling;
        let squares = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        let (skip, out) = (SIGMA_DATA * SIGMA_DATA / squares, scaled / squares.sqrt());
        let denoised = sum(&[(out, &image), (skip, sample)]);
        let Some(before) = before else {
            return denoised;
        };
        let alpha = self.trained.alpha(before, self.last_alpha);
        let noise = (moment.noise)();
        sum(&[(alpha.sqrt(), &denoised), ((1.0 - alpha).sqrt(), &noise)])
    }

    fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        self.trained.noised(self.timesteps[at], image, noise)
    }
}
