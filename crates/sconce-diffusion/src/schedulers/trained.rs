//! How noisy a model's images were at each time step of its training.

use sconce_models::{ConfigError, HfConfig};

use super::vectors::sum;

/// What is left of an image at each step of training: `alphas_cumprod`.
#[derive(Clone, Debug)]
pub(super) struct Trained {
    pub(super) alphas: Vec<f32>,
}

/// The largest share that a cosine schedule takes away at a step.
const MOST: f64 = 0.999;

impl Trained {
    /// Of the keys that all schedulers have.
    pub(super) fn read(config: &HfConfig) -> Result<Self, ConfigError> {
        let steps = config.size_or("num_train_timesteps", 1000)?;
        config.refuse("trained_betas", "null")?;
        let (start, end) = (
            config.float("beta_start", 0.0001)?,
            config.float("beta_end", 0.02)?,
        );
        config.refuse_unless(
            "beta_schedule",
            &["linear", "scaled_linear", "squaredcos_cap_v2"],
        )?;
        let betas = match config.text("beta_schedule").as_deref() {
            Some("scaled_linear") => {
                let roots = linspace(start.sqrt() as f32, end.sqrt() as f32, steps);
                roots.into_iter().map(|root| root * root).collect()
            }
            Some("squaredcos_cap_v2") => cosine(steps),
            _ => linspace(start as f32, end as f32, steps),
        };
        let rescaled = config.flag("rescale_betas_zero_snr", false)?;
        let betas = if rescaled {
            without_signal_at_the_end(&betas)
        } else {
            betas
        };
        Ok(Self {
            alphas: cumulated(&betas),
        })
    }

    pub(super) fn steps(&self) -> usize {
        self.alphas.len()
    }

    /// The spread of noise beside an image of spread 1: `sigmas`, from the least to the most.
    pub(super) fn sigmas(&self) -> Vec<f32> {
        let sigma = |alpha: &f32| ((1.0 - alpha) / alpha).sqrt();
        self.alphas.iter().map(sigma).collect()
    }

    /// The same with a last step that is not infinitely noisy.
    pub(super) fn with_finite_end(mut self, rescaled: bool) -> Self {
        if let (Some(last), true) = (self.alphas.last_mut(), rescaled) {
            // The smallest number of float16.
            *last = 2f32.powi(-24);
        }
        self
    }
}

/// `torch.linspace` in float32, which counts from both ends.
pub(super) fn linspace(start: f32, end: f32, steps: usize) -> Vec<f32> {
    if steps < 2 {
        return vec![start; steps];
    }
    let step = (end - start) / (steps - 1) as f32;
    let at = |index: usize| {
        if index < steps / 2 {
            start + step * index as f32
        } else {
            end - step * (steps - 1 - index) as f32
        }
    };
    (0..steps).map(at).collect()
}

fn cosine(steps: usize) -> Vec<f32> {
    let left = |t: f64| {
        ((t + 0.008) / 1.008 * std::f64::consts::PI / 2.0)
            .cos()
            .powi(2)
    };
    let beta = |index: usize| {
        let (from, to) = (
            index as f64 / steps as f64,
            (index + 1) as f64 / steps as f64,
        );
        (1.0 - left(to) / left(from)).min(MOST) as f32
    };
    (0..steps).map(beta).collect()
}

/// Products are cumulated in double precision and rounded each.
fn cumulated(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0;
    let alpha = |beta: &f32| {
        product *= f64::from(1.0 - beta);
        product as f32
    };
    betas.iter().map(alpha).collect()
}

/// Algorithm 1 of Lin et al. (2023).
fn without_signal_at_the_end(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulated(betas).iter().map(|alpha| alpha.sqrt()).collect();
    let (Some(first), Some(last)) = (roots.first(), roots.last()) else {
        return Vec::new();
    };
    let factor = first / (first - last);
    let left: Vec<f32> = roots
        .iter()
        .map(|root| ((root - last) * factor).powi(2))
        .collect();
    let beta = |index: usize| match index {
        0 => 1.0 - left[0],
        _ => 1.0 - left[index] / left[index - 1],
    };
    (0..left.len()).map(beta).collect()
}

impl Trained {
    /// What is left of an image at a time step; `last` before the first.
    pub(super) fn alpha(&self, at: i64, last: f32) -> f32 {
        let found = usize::try_from(at).ok();
        let most = self.alphas.len() - 1;
        found.map_or(last, |at| self.alphas[at.min(most)])
    }

    /// An image with noise at a time step.
    pub(super) fn noised(&self, at: i64, image: &[f32], noise: &[f32]) -> Vec<f32> {
        let alpha = self.alpha(at, 1.0);
        sum(&[(alpha.sqrt(), image), ((1.0 - alpha).sqrt(), noise)])
    }
}
