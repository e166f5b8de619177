//! `scheduler_config.json` as schedulers read it: what they have in common. What only one has, it reads itself.

use sconce_models::{ConfigError, HfConfig};
use serde_json::Value;

use super::trained::Trained;
use super::vectors::{sum, threshold};

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prediction {
    /// The noise.
    Epsilon,
    /// The image.
    Sample,
    /// The velocity between them (Salimans and Ho, 2022).
    Velocity,
}

/// Which time steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    Linspace,
    Leading,
    Trailing,
}

/// What becomes of a predicted image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Limit {
    None,
    Clip(f32),
    Threshold { ratio: f64, highest: f32 },
}

/// The keys.
pub(super) struct Config {
    pub(super) keys: HfConfig,
    pub(super) trained: Trained,
    /// Whether the last step of training was made pure noise.
    pub(super) rescaled: bool,
    pub(super) prediction: Prediction,
    pub(super) offset: usize,
    pub(super) eta: f64,
}

impl Config {
    pub(super) fn read(keys: &HfConfig, eta: f64) -> Result<Self, ConfigError> {
        let predictions = ["epsilon", "sample", "original_sample", "v_prediction"];
        keys.refuse_unless("prediction_type", &predictions)?;
        Ok(Self {
            trained: Trained::read(keys)?,
            rescaled: keys.flag("rescale_betas_zero_snr", false)?,
            prediction: match keys.text("prediction_type").as_deref() {
                Some("v_prediction") => Prediction::Velocity,
                Some("sample" | "original_sample") => Prediction::Sample,
                _ => Prediction::Epsilon,
            },
            offset: keys.count("steps_offset", 0)?,
            keys: keys.clone(),
            eta,
        })
    }

    /// The spacing, with the default of the class.
    pub(super) fn spacing(&self, default: Spacing) -> Result<Spacing, ConfigError> {
        let names = ["linspace", "leading", "trailing"];
        self.keys.refuse_unless("timestep_spacing", &names)?;
        Ok(match self.keys.text("timestep_spacing").as_deref() {
            Some("linspace") => Spacing::Linspace,
            Some("leading") => Spacing::Leading,
            Some(_) => Spacing::Trailing,
            None => default,
        })
    }

    /// What becomes of predicted images, with the class's default of clipping.
    pub(super) fn limit(&self, clips: bool) -> Result<Limit, ConfigError> {
        if self.keys.flag("thresholding", false)? {
            return Ok(Limit::Threshold {
                ratio: self.keys.float("dynamic_thresholding_ratio", 0.995)?,
                highest: self.keys.float("sample_max_value", 1.0)? as f32,
            });
        }
        let range = self.keys.float("clip_sample_range", 1.0)? as f32;
        Ok(match self.keys.flag("clip_sample", clips)? {
            true => Limit::Clip(range),
            false => Limit::None,
        })
    }

    /// The same for classes that never clip.
    pub(super) fn threshold(&self) -> Result<Limit, ConfigError> {
        Ok(match self.limit(false)? {
            Limit::Clip(_) => Limit::None,
            limit => limit,
        })
    }

    /// These keys without those that only other classes know.
    pub(super) fn without(&self, keys: &[&str]) -> Self {
        Self {
            keys: keys
                .iter()
                .fold(self.keys.clone(), |all, key| all.with(key, Value::Null)),
            trained: self.trained.clone(),
            ..*self
        }
    }

    /// Steps of the training with less signal than `lambda_min_clipped`, which is the logarithm of signal to noise.
    pub(super) fn clipped(&self) -> usize {
        let found = self.keys.find_number("lambda_min_clipped");
        let least = found.unwrap_or(f64::NEG_INFINITY) as f32;
        let trained = self.trained.clone().with_finite_end(self.rescaled);
        let lambda = |alpha: &f32| alpha.sqrt().ln() - (1.0 - alpha).sqrt().ln();
        trained
            .alphas
            .iter()
            .filter(|alpha| lambda(alpha) < least)
            .count()
    }

    /// Fails unless a number of steps is one that the model was trained with.
    pub(super) fn require_steps(&self, steps: usize) -> Result<(), ConfigError> {
        let most = self.trained.steps();
        if (1..=most).contains(&steps) {
            return Ok(());
        }
        let wanted = format!("1 to {most} steps, as many as num_train_timesteps");
        Err(self.keys.out_of_range("num_inference_steps", steps, wanted))
    }
}

impl Limit {
    pub(super) fn apply(self, image: &mut [f32], images: usize) {
        match self {
            Self::None => {}
            Self::Clip(range) => image.iter_mut().for_each(|x| *x = x.clamp(-range, range)),
            Self::Threshold { ratio, highest } => threshold(image, images, ratio, highest),
        }
    }
}

impl Prediction {
    /// The image of latents `alpha * image + sigma * noise`.
    pub(super) fn image(self, output: &[f32], sample: &[f32], alpha: f32, sigma: f32) -> Vec<f32> {
        match self {
            Self::Epsilon => sum(&[(1.0 / alpha, sample), (-sigma / alpha, output)]),
            Self::Sample => output.to_vec(),
            Self::Velocity => sum(&[(alpha, sample), (-sigma, output)]),
        }
    }

    /// The noise of such latents.
    pub(super) fn noise(self, output: &[f32], sample: &[f32], alpha: f32, sigma: f32) -> Vec<f32> {
        match self {
            Self::Epsilon => output.to_vec(),
            Self::Sample => sum(&[(1.0 / sigma, sample), (-alpha / sigma, output)]),
            Self::Velocity => sum(&[(alpha, output), (sigma, sample)]),
        }
    }

    /// The image of latents `image + sigma * noise`.
    pub(super) fn image_beside(self, output: &[f32], sample: &[f32], sigma: f32) -> Vec<f32> {
        let both = sigma * sigma + 1.0;
        match self {
            Self::Epsilon => sum(&[(1.0, sample), (-sigma, output)]),
            Self::Sample => output.to_vec(),
            Self::Velocity => sum(&[(-sigma / both.sqrt(), output), (1.0 / both, sample)]),
        }
    }
}
